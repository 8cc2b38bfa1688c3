// One Mixture-of-Experts layer through three verbs:
//   prepare  once per weights: canonical experts -> one backend's packed layout
//   plan     once per problem and size: kernels chosen, workspace sized
//   run      every step: arithmetic only; no allocation
//
//   auto weights = prepare(problem, source);                     // picks the first backend that takes the problem
//   Plan plan(weights, {.max_tokens = 256});
//   std::vector<std::byte> workspace(plan.workspace_bytes());
//   plan.run({.tokens = t, .x = x, .topk_ids = ids, .topk_weights = w, .output = out, .workspace = workspace});
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/buffer.h"

namespace megamoe {

// ---- The problem ----------------------------------------------------------------------------------------------------

enum class WeightFormat : std::uint8_t { kNvfp4, kBf16 };

// The format activations have when they meet the weights, and the intermediate between the two GEMMs too.
enum class ActivationFormat : std::uint8_t {
  kBf16,   // as they are; the intermediate is rounded once to bf16
  kNvfp4,  // E2M1 codes, E4M3 per 16, f32 per row
  kInt8,   // int8, f32 per 64
};

// Where the f32 global scale of NVFP4 activations comes from.
enum class ActivationScale : std::uint8_t {
  kPerToken,  // amax(row) / 2688, computed in run
  kStatic,    // the checkpoint's input_scale, per expert
};

// What happens between the two GEMMs, in f32 on de-scaled values g (gate) and u (up), after biases:
//   kSwiglu     g = min(g, limit), u = clamp(u, -limit, limit), silu(g) * u
//   kSwigluOai  the same clamps, then g * sigmoid(alpha * g) * (u + 1)          (gpt-oss)
struct Activation {
  enum class Kind : std::uint8_t { kSwiglu, kSwigluOai };
  Kind kind = Kind::kSwiglu;
  float limit = std::numeric_limits<float>::infinity();  // infinity: no clamp
  float alpha = 1.702f;                                  // kSwigluOai only
  friend bool operator==(const Activation&, const Activation&) = default;
};

enum class TopkWeightPlace : std::uint8_t {
  kAfterGemm2,   // multiplied into the row's output when rows are combined
  kBeforeGemm2,  // multiplied into the activation's result, before it is rounded to the activation format, and into the
                 // down bias, so that the layer means the same
};

// An expert that every token passes, added to the routed sum. Its activation is the layer's.
struct SharedExpert {
  std::int64_t inter = 0;  // total width of all shared experts; 0 = none
  WeightFormat weights = WeightFormat::kBf16;
  bool gated = false;  // output multiplied by sigmoid(x . gate_vector)
  friend bool operator==(const SharedExpert&, const SharedExpert&) = default;
};

// Everything that chooses a kernel. Sizes are in elements; hidden and inter must be multiples of 16.
struct Problem {
  std::int64_t hidden = 0;
  std::int64_t inter = 0;
  std::int64_t experts = 0;
  std::int64_t top_k = 0;
  WeightFormat weights = WeightFormat::kNvfp4;
  ActivationFormat activations = ActivationFormat::kBf16;
  ActivationScale activation_scale = ActivationScale::kPerToken;
  Activation activation;
  bool has_bias = false;  // gate, up and down biases (gpt-oss)
  TopkWeightPlace topk_weight = TopkWeightPlace::kAfterGemm2;
  SharedExpert shared;

  // One line that parse_problem reads back: "h=256 i=128 e=16 k=4 w=nvfp4 a=bf16". Fields at their default are left
  // out. A bug report is this line.
  std::string to_string() const;
  friend bool operator==(const Problem&, const Problem&) = default;
};

Problem parse_problem(std::string_view text);  // throws kInvalidArgument naming the word it does not know
void validate(const Problem& problem);         // throws kInvalidArgument: what was asked, what is accepted

std::string_view name(WeightFormat format) noexcept;      // "nvfp4", "bf16"
std::string_view name(ActivationFormat format) noexcept;  // "bf16", "nvfp4", "int8"

// The format in which the shared expert's activations meet its weights: bf16 weights always take bf16 activations.
ActivationFormat shared_activations(const Problem& problem) noexcept;

// ---- Canonical weights ----------------------------------------------------------------------------------------------

// One weight matrix [rows, cols], cols = K contiguous. Memory may be unaligned (it may lie in a mapped checkpoint).
//   nvfp4  data = codes [rows, cols/2] u8, low nibble = even K;  sf [rows, cols/16] e4m3;  value = e2m1 * (sf *
//   global_scale) bf16   data = [rows, cols] bf16
struct MatrixView {
  WeightFormat format = WeightFormat::kNvfp4;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const std::byte* data = nullptr;
  const std::byte* sf = nullptr;
  float global_scale = 1.0f;
};

// Everything of one expert; whatever moves an expert moves all of it.
struct ExpertView {
  MatrixView gate;                   // [inter, hidden]
  MatrixView up;                     // [inter, hidden]; its global_scale may differ from gate's
  MatrixView down;                   // [hidden, inter]
  std::span<const float> gate_bias;  // [inter], or empty
  std::span<const float> up_bias;    // [inter], or empty
  std::span<const float> down_bias;  // [hidden], or empty
  float gate_up_input_scale = 0.0f;  // multiplier; 0 = the checkpoint has none
  float down_input_scale = 0.0f;
};

// Memory for an expert that had to be converted; grows to one expert's size and is reused.
struct ExpertScratch {
  std::vector<std::byte> bytes;
  std::vector<float> floats;
};

// Gives experts one at a time, so that nobody holds a second copy of the model. Calls may come from several threads at
// once, each with its own scratch; a view lives as long as the source and its scratch are untouched.
class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  virtual ExpertView expert(std::int64_t index, ExpertScratch& scratch) const = 0;
  virtual ExpertView shared_expert(ExpertScratch& scratch) const;    // throws kInternal unless overridden
  virtual std::span<const float> shared_gate() const { return {}; }  // [hidden], where problem.shared.gated
};

// ---- prepare --------------------------------------------------------------------------------------------------------

// Weights in one backend's layout.
class PreparedWeights {
 public:
  virtual ~PreparedWeights() = default;
  virtual std::string_view backend() const noexcept = 0;
  virtual const Problem& problem() const noexcept = 0;
  virtual std::size_t bytes() const noexcept = 0;  // memory held
};

struct PrepareOptions {
  // Or a name of backend_names(), or what such a name has before a '/' ("cuda"): then only that, or kUnsupported with
  // the reason.
  std::string backend = "auto";
  int threads = 0;  // 0 = all of the machine
};

std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                               const PrepareOptions& options = {});

// Who would take a problem: the backends in order of preference, each with the reason why it can not (empty = it can).
struct Candidate {
  std::string_view backend;
  std::string refusal;
  bool elsewhere = false;  // refused for this machine or build alone: the backend takes such problems on others
};
std::vector<Candidate> candidates(const Problem& problem);
std::vector<std::string_view> backend_names();

// ---- plan and run ---------------------------------------------------------------------------------------------------

// The second GEMM's input as a backend computed it, in canonical layout; for tests. Only the vectors of its format are
// filled.
struct Intermediate {
  struct Rows {
    ActivationFormat format = ActivationFormat::kBf16;
    std::int64_t rows = 0;
    std::int64_t inter = 0;
    std::vector<std::uint16_t> bf16;  // [rows, inter]
    std::vector<std::uint8_t> codes;  // [rows, inter/2]   nvfp4
    std::vector<std::uint8_t> sf;     // [rows, inter/16]  e4m3
    std::vector<float> global_scale;  // [rows]
    std::vector<std::int8_t> int8;    // [rows, inter]
    std::vector<float> int8_scale;    // [rows, ceil(inter/64)]
  };
  Rows routed;
  Rows shared;                          // one row a token; empty without a shared expert
  std::vector<std::int64_t> row_begin;  // [experts + 1]
  std::vector<std::int64_t> row_of;     // [tokens, top_k], -1 = no row
  bool y_is_bf16 = false;               // the second GEMM's rows were rounded to bf16 before they were summed
};

// Is told of the stages of a run as each one's work is submitted, in order: what `stream` holds then is the work of all
// stages so far. For profiles; a backend without separate stages calls nothing.
class StageTimer {
 public:
  virtual ~StageTimer() = default;
  virtual void stage(std::string_view name, void* stream) = 0;
};

// Where x and the output of a call on a device begin: at a multiple of this many bytes.
inline constexpr std::size_t kDeviceAlignment = 16;

// One call, its arrays in the memory that Plan::memory() names. Exactly one of output and output_f32 is given; every
// byte of it is written. On a device run returns before the work is done, in the order of `stream`.
struct RunArgs {
  std::int64_t tokens = 0;
  std::span<const std::uint16_t> x;        // [tokens, hidden]  bf16 bits
  std::span<const std::int32_t> topk_ids;  // [tokens, top_k]   expert, or kDroppedExpert / kPoisonedExpert
  std::span<const float> topk_weights;     // [tokens, top_k]
  std::span<std::uint16_t> output;         // [tokens, hidden]  bf16 bits
  std::span<float> output_f32;             // [tokens, hidden]
  std::span<std::byte> workspace;          // at least workspace_bytes(), any alignment, any contents
  void* stream = nullptr;                  // a cudaStream_t, where the plan computes on a device
  Intermediate* intermediate = nullptr;    // where not null, filled (and then run allocates, and waits for a device)
  StageTimer* stage_timer = nullptr;       // where not null, told of each stage
};

struct PlanOptions {
  std::int64_t max_tokens = 0;
  int threads = 0;  // 0 = all of the machine
  // Backend cpu: the instruction set of its kernels, as cpu_instruction_sets() has them; empty: the environment's
  // MEGAMOE_ISA, or the best of this machine. kUnsupported for one that is not there. Other backends take no notice of
  // MEGAMOE_ISA, and refuse an isa: kInvalidArgument.
  std::string isa;
};

// Of backend cpu, those that this build holds and this machine runs, best first; empty in a build without it.
std::vector<std::string> cpu_instruction_sets();

class PlanImpl;  // moe/backend.h

class Plan {
 public:
  Plan(std::shared_ptr<const PreparedWeights> weights, const PlanOptions& options);
  ~Plan();
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;

  std::string_view backend() const noexcept;
  const Problem& problem() const noexcept;
  std::int64_t max_tokens() const noexcept;
  MemoryKind memory() const noexcept;
  std::size_t workspace_bytes() const noexcept;
  std::string describe() const;  // one line: backend, instruction set, threads, tiles

  // Throws kInvalidArgument, before anything is written, for wrong sizes or an expert id outside [-2, experts); on a
  // device, where ids are not looked at before, such an id makes the token's output NaN. One workspace serves one run
  // at a time; plans are otherwise safe to use from several threads.
  void run(const RunArgs& args) const;

 private:
  std::shared_ptr<const PreparedWeights> weights_;
  PlanOptions options_;
  std::unique_ptr<PlanImpl> impl_;
};

}  // namespace megamoe
