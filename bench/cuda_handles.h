// CUDA runtime objects that end with their owner. Only code that is built with CUDA includes this.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "base/cuda_check.h"

namespace megamoe::bench {

class CudaStream {
 public:
  CudaStream() { cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
  ~CudaStream() { (void)cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  cudaStream_t get() const { return stream_; }
  void wait() const { cuda_check(cudaStreamSynchronize(stream_), "waiting for the device"); }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaEvent {
 public:
  CudaEvent() { cuda_check(cudaEventCreate(&event_), "event"); }
  ~CudaEvent() {
    if (event_ != nullptr) (void)cudaEventDestroy(event_);
  }
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&&) = delete;

  void record(cudaStream_t stream) { cuda_check(cudaEventRecord(event_, stream), "recording an event"); }

  // Both were recorded, and the device has passed them.
  static double seconds(const CudaEvent& from, const CudaEvent& to) {
    float milliseconds = 0.0f;
    cuda_check(cudaEventElapsedTime(&milliseconds, from.event_, to.event_), "time between events");
    return static_cast<double>(milliseconds) * 1e-3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// What a function submits to a stream, captured once and replayed any number of times.
class CudaGraph {
 public:
  template <class Submit>
  CudaGraph(cudaStream_t stream, const Submit& submit) {
    // Thread-local: what other threads of the process do meanwhile neither joins the capture nor ends it.
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "graph capture");
    cudaGraph_t graph = nullptr;
    try {
      submit();
    } catch (...) {
      (void)cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream, &graph), "graph capture");
    const cudaError_t status = cudaGraphInstantiate(&graph_, graph, 0);
    (void)cudaGraphDestroy(graph);
    cuda_check(status, "graph instantiation");
  }
  ~CudaGraph() {
    if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
  }
  CudaGraph(CudaGraph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&&) = delete;

  void replay(cudaStream_t stream) const { cuda_check(cudaGraphLaunch(graph_, stream), "graph launch"); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace megamoe::bench
