// The BF16 matrix rate of a device, by cuBLASLt. Its types are taken from its header, its functions from the library
// that is found at run time.
#include <dlfcn.h>

#include <array>
#include <memory>
#include <string>
#include <type_traits>

#include "bench/cuda_floors.h"
#include "bench/cuda_probes.h"
#include "bench/cuda_repeat.h"
#include "bench/layer_timer.h"
#include "megamoe/buffer.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

namespace megamoe::bench {
namespace {

constexpr std::int64_t kSize = 8192;
constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
constexpr double kWarmUpSeconds = 0.3;
constexpr int kSamples = 9;
constexpr int kCallsOfSample = 4;

// Newest first. Older ones run on the same driver.
constexpr std::array kLibraries{"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

// Stays loaded until the process ends, as CUDA libraries want to.
void* open_library() {
  for (const char* name : kLibraries)
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL); library != nullptr) return library;
  return nullptr;
}

template <class Function>
Function* find(void* library, const char* name) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) throw Error(Code::kDevice, "cuBLASLt: the library has no ", name);
  return reinterpret_cast<Function*>(symbol);
}

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(Code::kDevice, "cuBLASLt: ", what, " answered status ", static_cast<int>(status));
}

// A cuBLASLt object and the function that ends it.
template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;

// One product D = A^T B, all of kSize x kSize: both operands are contiguous along the sum, the form that runs fastest.
class Matmul {
 public:
  explicit Matmul(void* library)
      : run_(find<decltype(cublasLtMatmul)>(library, "cublasLtMatmul")),
        handle_(nullptr, find<decltype(cublasLtDestroy)>(library, "cublasLtDestroy")),
        operation_(nullptr, find<decltype(cublasLtMatmulDescDestroy)>(library, "cublasLtMatmulDescDestroy")),
        layout_(nullptr, find<decltype(cublasLtMatrixLayoutDestroy)>(library, "cublasLtMatrixLayoutDestroy")),
        preference_(nullptr,
                    find<decltype(cublasLtMatmulPreferenceDestroy)>(library, "cublasLtMatmulPreferenceDestroy")),
        a_(MemoryKind::kCuda, kBytes),
        b_(MemoryKind::kCuda, kBytes),
        d_(MemoryKind::kCuda, kBytes),
        workspace_(MemoryKind::kCuda, kWorkspaceBytes) {
    create(library);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(find<decltype(cublasLtMatmulDescSetAttribute)>(library, "cublasLtMatmulDescSetAttribute")(
              operation_.get(), CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
          "cublasLtMatmulDescSetAttribute");
    check(find<decltype(cublasLtMatmulPreferenceSetAttribute)>(library, "cublasLtMatmulPreferenceSetAttribute")(
              preference_.get(), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof(kWorkspaceBytes)),
          "cublasLtMatmulPreferenceSetAttribute");
    int found = 0;
    check(find<decltype(cublasLtMatmulAlgoGetHeuristic)>(library, "cublasLtMatmulAlgoGetHeuristic")(
              handle_.get(), operation_.get(), layout_.get(), layout_.get(), layout_.get(), layout_.get(),
              preference_.get(), 1, &heuristic_, &found),
          "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0) throw Error(Code::kDevice, "cuBLASLt: no algorithm for BF16 matrices of ", kSize);
  }

  void fill(cudaStream_t stream) {
    fill_normal_bf16(a_.as<std::uint16_t>(), 1, stream);
    fill_normal_bf16(b_.as<std::uint16_t>(), 2, stream);
  }

  void run(cudaStream_t stream) {
    const float one = 1.0f, zero = 0.0f;
    check(run_(handle_.get(), operation_.get(), &one, a_.data(), layout_.get(), b_.data(), layout_.get(), &zero,
               d_.data(), layout_.get(), d_.data(), layout_.get(), &heuristic_.algo, workspace_.data(),
               workspace_.size(), stream),
          "cublasLtMatmul");
  }

 private:
  static constexpr std::size_t kBytes = sizeof(std::uint16_t) * kSize * kSize;

  void create(void* library) {
    cublasLtHandle_t handle = nullptr;
    check(find<decltype(cublasLtCreate)>(library, "cublasLtCreate")(&handle), "cublasLtCreate");
    handle_.reset(handle);
    cublasLtMatmulDesc_t operation = nullptr;
    check(find<decltype(cublasLtMatmulDescCreate)>(library, "cublasLtMatmulDescCreate")(&operation, CUBLAS_COMPUTE_32F,
                                                                                        CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    operation_.reset(operation);
    cublasLtMatrixLayout_t layout = nullptr;
    check(find<decltype(cublasLtMatrixLayoutCreate)>(library, "cublasLtMatrixLayoutCreate")(&layout, CUDA_R_16BF, kSize,
                                                                                            kSize, kSize),
          "cublasLtMatrixLayoutCreate");
    layout_.reset(layout);
    cublasLtMatmulPreference_t preference = nullptr;
    check(find<decltype(cublasLtMatmulPreferenceCreate)>(library, "cublasLtMatmulPreferenceCreate")(&preference),
          "cublasLtMatmulPreferenceCreate");
    preference_.reset(preference);
  }

  decltype(cublasLtMatmul)* run_;
  Owned<cublasLtHandle_t> handle_;
  Owned<cublasLtMatmulDesc_t> operation_;
  Owned<cublasLtMatrixLayout_t> layout_;
  Owned<cublasLtMatmulPreference_t> preference_;
  Buffer a_, b_, d_, workspace_;
  cublasLtMatmulHeuristicResult_t heuristic_{};
};

MatmulRate measure_with(void* library) {
  const std::size_t version = find<decltype(cublasLtGetVersion)>(library, "cublasLtGetVersion")();
  Matmul matmul(library);
  const CudaStream stream;
  matmul.fill(stream.get());
  const auto seconds = sustained_times(stream, kWarmUpSeconds, kSamples, [&] {
    for (int i = 0; i < kCallsOfSample; ++i) matmul.run(stream.get());
  });
  constexpr auto kEdge = static_cast<double>(kSize);
  return {kCallsOfSample * 2.0 * kEdge * kEdge * kEdge / median(seconds), "cuBLASLt " + std::to_string(version)};
}

}  // namespace

MatmulRate measure_bf16_matmul() {
  void* library = open_library();
  if (library == nullptr) return {0.0, "not measured: libcublasLt was not found (LD_LIBRARY_PATH tells where to look)"};
  try {
    return measure_with(library);
  } catch (const Error& error) {
    return {0.0, std::string("not measured: ") + error.what()};
  }
}

}  // namespace megamoe::bench

#else

namespace megamoe::bench {

MatmulRate measure_bf16_matmul() { return {0.0, "not measured: this program was built without the header cublasLt.h"}; }

}  // namespace megamoe::bench

#endif
