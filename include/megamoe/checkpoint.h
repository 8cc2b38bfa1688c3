// Checkpoints: directories in Hugging Face form (config.json, safetensors), read into MoE layers, inspected, quantised
// and converted. docs/formats.md lists the families and dialects.
//
//   const Checkpoint checkpoint = Checkpoint::open("Qwen3-30B-A3B-NVFP4");
//   const MoeLayer layer = checkpoint.layer(checkpoint.layers()[0]);
//   auto weights = prepare(layer.problem, *layer.experts);
//
// Nothing here guesses: what is unknown, missing or contradictory is an Error of kind kBadFile (or kUnsupported where
// the file is sound but of a kind that megamoe does not read), with the tensor's and the file's name in the sentence.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"
#include "megamoe/routing.h"

namespace megamoe {

// One observation about a checkpoint.
struct Finding {
  int pitfall = 0;       // 1..16 as numbered by pitfall_title(), 0 = none of them
  std::string tensor;    // full name of the tensor or module; empty where it is about a file
  std::string file;      // the file's name inside the directory
  std::string sentence;  // what was found, and what is accepted

  std::string to_string() const;  // "file: tensor: sentence"
};

// The known ways in which NVFP4 checkpoints go wrong, 1..kPitfallCount, in a few words each; "" for other numbers.
inline constexpr int kPitfallCount = 16;
std::string_view pitfall_title(int pitfall) noexcept;

// What this build reads: "qwen3_moe", ... and "plain", "modelopt", "compressed-tensors".
std::vector<std::string_view> family_names();
std::vector<std::string_view> dialect_names();

// ---- Reading --------------------------------------------------------------------------------------------------------

struct MoeLayer {
  std::int64_t index = 0;  // the model's layer number
  // Weights as stored (both BF16 and converted F16/F32 count as kBf16); activations kBf16, scale per token: the caller
  // may set others. No limit or bias unless the family has one.
  Problem problem;
  RoutingRule routing;
  std::vector<float> router_weight;       // [experts, hidden]
  std::vector<float> router_bias;         // [experts], or empty
  std::vector<float> choice_bias;         // [experts] (e_score_correction_bias), or empty
  std::shared_ptr<ExpertSource> experts;  // keeps the files mapped; views into them wherever no conversion is needed
  std::vector<Finding> notes;             // oddities that change nothing
};

// An opened checkpoint. Cheap to copy; safe to use from several threads.
class Checkpoint {
 public:
  // Reads the config and all safetensors headers, no tensor data.
  static Checkpoint open(const std::string& dir);

  const std::string& dir() const noexcept;
  std::string_view family() const noexcept;               // "qwen3_moe", ...
  std::string_view dialect() const noexcept;              // "plain", "modelopt", "compressed-tensors"
  std::span<const std::int64_t> layers() const noexcept;  // numbers of the layers with experts, ascending
  // A word that is another one for another checkpoint: a hash of every file's name, size, time of last change and
  // header. Of the tensors' data nothing is read.
  std::string identity() const;

  // Checks every tensor of the layer (presence, type, shape, every scale) and throws for the first fault.
  // Throws kInvalidArgument for a number that is not in layers().
  MoeLayer layer(std::int64_t index) const;

  struct Impl;

 private:
  explicit Checkpoint(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

// ---- Inspecting -----------------------------------------------------------------------------------------------------

struct FileReport {
  std::string name;
  std::uint64_t bytes = 0;
  std::int64_t tensors = 0;
};

struct LayerReport {
  std::int64_t index = 0;
  std::string weights;  // format of the routed experts: "nvfp4", "BF16", "mixed", ...
  std::string shared;   // format of the shared experts; empty without
  std::int64_t expert_tensors = 0;
  std::int64_t expert_tensors_expected = 0;
  std::uint64_t expert_bytes = 0;
};

struct InspectReport {
  std::string dir;
  std::string family;   // empty where it could not be told
  std::string dialect;  // empty where it could not be told
  std::string prefix;   // in front of "layers.N."
  Problem problem;      // sizes and activation of the layers; zeros where the config could not be read
  std::string routing;  // RoutingRule::to_string()
  std::vector<FileReport> files;
  std::vector<LayerReport> layers;
  std::int64_t tensors = 0;
  std::uint64_t bytes = 0;  // of tensor data
  std::uint64_t expert_bytes = 0;
  double bits_per_expert_weight = 0.0;  // codes, scales and globals; 0 where no expert could be read
  std::vector<Finding> problems;        // empty = megamoe and others can load it
  std::vector<Finding> notes;
};

// Checks all that can be checked in one pass, every block scale of every expert included. Never stops at the first
// problem: throws only where the directory can not be read at all.
InspectReport inspect(const std::string& dir);

// ---- Writing --------------------------------------------------------------------------------------------------------

struct RewriteOptions {
  std::string dialect = "modelopt";  // or "compressed-tensors"; of convert also "plain"
  bool resume = false;               // go on with what an earlier, killed call of the same job left in `out`
  // `out` may be an older model: the new one is built beside it and takes the place of the whole directory, at the end
  // and in one step. A directory that is no model is refused.
  bool overwrite = false;
  // Called as work is done, by one thread at a time; may throw to stop (the output can be resumed).
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes, std::string_view what)> progress;
};

struct QuantizeOptions : RewriteOptions {
  std::string recipe = "rne";  // names of megamoe/quant.h
};

// Error of one kind of matrix of one layer against the weights it was made of.
struct MatrixError {
  double sqnr_db = 0.0;
  double relative = 0.0;  // Frobenius norm of the difference / of the weights
  double max_abs = 0.0;
};

struct RewriteReport {
  struct Layer {
    std::int64_t index = 0;
    std::array<MatrixError, 3> error;  // gate, up, down; zeros from convert
  };
  std::string dialect;
  std::uint64_t input_bytes = 0;  // tensor data
  std::uint64_t output_bytes = 0;
  std::uint64_t input_expert_bytes = 0;
  std::uint64_t output_expert_bytes = 0;
  std::int64_t matrices = 0;         // quantised or converted
  std::int64_t tensors_copied = 0;   // byte for byte
  std::int64_t tensors_written = 0;  // all
  std::vector<std::string> files;
  std::vector<Layer> layers;
  std::vector<Finding> notes;
  double seconds = 0.0;
};

// Writes to `out` the model of `dir` with its routed experts in NVFP4 and everything else byte for byte as it was.
// Gate and up of one expert get one global scale (the larger of the two), as consumers of fused gate/up expect.
// The input is read only through its mapping; beside it, one expert's working set is held at a time.
// Throws kInvalidArgument where `out` is `dir` (or inside, or around it) or is not empty (see options), kBadFile for
// weights that are not finite, and kUnsupported for a model that is quantised already.
RewriteReport quantize(const std::string& dir, const std::string& out, const QuantizeOptions& options);

// Writes to `out` the NVFP4 model of `dir` in another dialect: codes and block scales byte for byte, global scales in
// the dialect's convention. A reciprocal is chosen so that converting back gives the same bits wherever such an f32
// exists; where none does, a note says so. To "plain": BF16 weights, each value rounded once; input scales are left
// out.
RewriteReport convert(const std::string& dir, const std::string& out, const RewriteOptions& options);

}  // namespace megamoe
