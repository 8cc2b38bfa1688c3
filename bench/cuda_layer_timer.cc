#include "bench/cuda_layer_timer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "bench/cuda_handles.h"
#include "bench/cuda_probes.h"
#include "megamoe/buffer.h"

namespace megamoe::bench {
namespace {

constexpr double kSampleSeconds = 0.5e-3;  // the resolution of events, about 0.5 us, is 1/1000 of it
constexpr double kLongReplaySeconds = 5e-3;
constexpr int kFewestSamples = 10;
constexpr int kMostSamples = 2000;
constexpr int kProfiledRuns = 16;
constexpr double kHoldSeconds = 1e-3;  // longer than the host takes to submit one run

// One batch in device memory.
struct DeviceBatch {
  std::int64_t count;
  Buffer x, topk_ids, topk_weights;

  explicit DeviceBatch(const Tokens& tokens)
      : count(tokens.count),
        x(uploaded(std::as_bytes(std::span(tokens.x)))),
        topk_ids(uploaded(std::as_bytes(std::span(tokens.topk_ids)))),
        topk_weights(uploaded(std::as_bytes(std::span(tokens.topk_weights)))) {}

  static Buffer uploaded(std::span<const std::byte> host) {
    Buffer buffer(MemoryKind::kCuda, host.size());
    buffer.upload(host);
    return buffer;
  }
};

// Submits runs of the batches to one stream. They share the workspace and the output: one run at a time has them.
class Runs {
 public:
  Runs(const Plan& plan, std::span<const Tokens> batches)
      : plan_(plan),
        workspace_(MemoryKind::kCuda, plan.workspace_bytes()),
        output_(MemoryKind::kCuda, batches[0].x.size() * sizeof(std::uint16_t)) {
    for (const Tokens& tokens : batches) batches_.emplace_back(tokens);
  }

  std::size_t count() const { return batches_.size(); }

  void submit(std::size_t batch, cudaStream_t stream, StageTimer* stages = nullptr) {
    const DeviceBatch& from = batches_[batch];
    RunArgs args;
    args.tokens = from.count;
    args.x = from.x.as<const std::uint16_t>();
    args.topk_ids = from.topk_ids.as<const std::int32_t>();
    args.topk_weights = from.topk_weights.as<const float>();
    args.output = output_.as<std::uint16_t>();
    args.workspace = workspace_.as<std::byte>();
    args.stream = stream;
    args.stage_timer = stages;
    plan_.run(args);
  }

  // Bits that no output has: NaN everywhere.
  void poison_output(cudaStream_t stream) {
    cuda_check(cudaMemsetAsync(output_.data(), 0xFF, output_.size(), stream), "poisoning the output");
  }

  std::vector<std::uint16_t> download_output() const {
    std::vector<std::uint16_t> output(output_.size() / sizeof(std::uint16_t));
    output_.download(std::as_writable_bytes(std::span(output)));
    return output;
  }

 private:
  const Plan& plan_;
  Buffer workspace_, output_;
  std::vector<DeviceBatch> batches_;
};

// The captured graphs, and how many calls each replay of one is.
struct Graphs {
  std::vector<CudaGraph> graphs;
  int calls_of_replay = 1;

  Graphs(Runs& runs, const CudaStream& stream, GraphOf kind) {
    if (kind == GraphOf::kChain) {
      calls_of_replay = static_cast<int>(runs.count());
      graphs.emplace_back(stream.get(), [&] {
        for (std::size_t b = 0; b < runs.count(); ++b) runs.submit(b, stream.get());
      });
      return;
    }
    for (std::size_t b = 0; b < runs.count(); ++b)
      graphs.emplace_back(stream.get(), [&] { runs.submit(b, stream.get()); });
  }

  // One call of every batch.
  void replay_round(const CudaStream& stream) const {
    for (const CudaGraph& graph : graphs) graph.replay(stream.get());
  }
};

// Records an event after each stage of one run.
class EventStages final : public StageTimer {
 public:
  void start(cudaStream_t stream) {
    names_.clear();
    events_.clear();
    events_.emplace_back().record(stream);
  }
  void stage(std::string_view name, void* stream) override {
    names_.emplace_back(name);
    events_.emplace_back().record(static_cast<cudaStream_t>(stream));
  }

  // After the device is done: adds each stage's time to `samples` under its name, in the order of the stages. A name
  // that comes twice in a run counts once, with the sum.
  void collect(std::vector<std::pair<std::string, std::vector<double>>>& samples) const {
    std::vector<std::string> seen;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const double seconds = CudaEvent::seconds(events_[i], events_[i + 1]);
      const bool again = std::find(seen.begin(), seen.end(), names_[i]) != seen.end();
      seen.push_back(names_[i]);
      auto at = std::find_if(samples.begin(), samples.end(), [&](const auto& s) { return s.first == names_[i]; });
      if (at == samples.end()) at = samples.insert(samples.end(), {names_[i], {}});
      if (again)
        at->second.back() += seconds;
      else
        at->second.push_back(seconds);
    }
  }

 private:
  std::vector<std::string> names_;
  std::vector<CudaEvent> events_;  // one more than names: the start
};

std::vector<StageTime> profile(Runs& runs, const CudaStream& stream) {
  EventStages stages;
  std::vector<std::pair<std::string, std::vector<double>>> samples;
  for (std::size_t i = 0; i < kProfiledRuns; ++i) {
    hold(kHoldSeconds, stream.get());
    stages.start(stream.get());
    runs.submit(i % runs.count(), stream.get(), &stages);
    stream.wait();
    stages.collect(samples);
  }
  std::vector<StageTime> times;
  for (const auto& [name, seconds] : samples) times.push_back({name, median(seconds)});
  return times;
}

double time_of_round(const Graphs& graphs, const CudaStream& stream) {
  graphs.replay_round(stream);
  CudaEvent start, end;
  start.record(stream.get());
  graphs.replay_round(stream);
  end.record(stream.get());
  stream.wait();
  return std::max(CudaEvent::seconds(start, end), 1e-6);
}

// Seconds a call, of each sample.
std::vector<double> time_calls(const Graphs& graphs, const CudaStream& stream, const DeviceTimerOptions& options) {
  const double round = time_of_round(graphs, stream);
  const auto replays_of_round = graphs.graphs.size();
  const double replay = round / static_cast<double>(replays_of_round);
  // Whole rounds, so that every sample holds the same work; batches whose replay takes long differ too little to
  // matter.
  const auto rounds_of_sample = static_cast<std::size_t>(std::ceil(kSampleSeconds / round));
  const std::size_t replays = replay >= kLongReplaySeconds ? 1 : rounds_of_sample * replays_of_round;
  const double sample = replay * static_cast<double>(replays);
  const auto samples =
      static_cast<std::size_t>(std::clamp(static_cast<int>(options.seconds / sample), kFewestSamples, kMostSamples));

  std::vector<CudaEvent> marks(samples + 1);
  std::size_t next = 0;
  const auto replay_next = [&] { graphs.graphs[next++ % replays_of_round].replay(stream.get()); };
  const auto warm_ups = static_cast<std::size_t>(std::ceil(options.warm_up_seconds / round));
  for (std::size_t i = 0; i < warm_ups; ++i) graphs.replay_round(stream);
  marks[0].record(stream.get());
  for (std::size_t s = 0; s < samples; ++s) {
    for (std::size_t i = 0; i < replays; ++i) replay_next();
    marks[s + 1].record(stream.get());
  }
  stream.wait();

  const double calls = static_cast<double>(replays) * graphs.calls_of_replay;
  std::vector<double> seconds;
  for (std::size_t s = 0; s < samples; ++s) seconds.push_back(CudaEvent::seconds(marks[s], marks[s + 1]) / calls);
  return seconds;
}

}  // namespace

DeviceMeasurement measure_layer_on_device(const Plan& plan, std::span<const Tokens> batches,
                                          const DeviceTimerOptions& options) {
  Runs runs(plan, batches);
  const CudaStream stream;
  runs.submit(0, stream.get());  // loads the kernels, which a capture can not
  stream.wait();
  const Graphs graphs(runs, stream, options.graph);

  DeviceMeasurement result;
  result.times = count_work(plan.problem(), batches);
  set_times(result.times, time_calls(graphs, stream, options));
  result.times.stages = profile(runs, stream);

  runs.poison_output(stream.get());
  graphs.replay_round(stream);
  stream.wait();
  result.last_output = runs.download_output();
  return result;
}

}  // namespace megamoe::bench
