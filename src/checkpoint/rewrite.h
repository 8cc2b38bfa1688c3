// What quantize and convert have in common: the same shards, most tensors byte for byte, a config that says what is
// new.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/model.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/source_digests.h"

namespace megamoe {

// Counts bytes of the input that are dealt with, and tells the caller's callback; from any thread.
class Progress {
 public:
  Progress(const RewriteOptions& options, std::uint64_t total) : report_(options.progress), total_(total) {}
  void add(std::uint64_t bytes, std::string_view what) {
    const std::lock_guard lock(mutex_);
    done_ += bytes;
    if (report_) report_(done_, total_, what);
  }

 private:
  const std::function<void(std::uint64_t, std::uint64_t, std::string_view)>& report_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  std::mutex mutex_;
};

// What happens to the tensors that are not copied.
class Transform {
 public:
  virtual ~Transform() = default;

  // What a tensor becomes, nothing included; nullopt for one that is copied.
  virtual std::optional<std::vector<TensorSpec>> outputs(const Tensor& tensor) const = 0;
  // Tensors of other shards that decide bytes of this one.
  virtual std::vector<const Tensor*> foreign_sources(std::uint32_t shard) const = 0;
  // Writes all that becomes of this shard's tensors. `sources` may be told what those that it reads hash to.
  virtual void write(std::uint32_t shard, SafetensorsWriter& writer, SourceDigests& sources, Progress& progress) = 0;
  // A shard that an earlier run has finished, for figures about it.
  virtual void look_at_finished(std::uint32_t shard, const SafetensorsFile& file) = 0;

  virtual const Dialect& dialect() const = 0;  // of the output
  virtual bool has_input_scales() const = 0;   // in the output
  virtual bool quantised(
      const Tensor& weight) const = 0;      // whether this ".weight" is that of an NVFP4 module, in the output
  virtual std::string options() const = 0;  // all that changes a byte of the output
};

// Runs a transform over a model. Fills the report but for what only the transform knows.
void rewrite(const Model& model, const std::string& out, const RewriteOptions& options, Transform& transform,
             RewriteReport& report);

// An F32 scalar as a dialect writes it.
TensorSpec scalar_spec(const Dialect& dialect, std::string name);

// The f32 that a dialect stores for a multiplier: itself, or the number whose rounded reciprocal is the multiplier, the
// rounded reciprocal where there is none (`*is_exact` = false, and a reader is off by one unit in the last place).
float stored_scalar(const Dialect& dialect, float multiplier, bool* is_exact = nullptr);

// The number nearest to `multiplier` that every dialect can store exactly.
float storable_multiplier(float multiplier);

}  // namespace megamoe
