// Writes one safetensors file into an OutputDirectory: planned first, then filled in any order, then checked and named.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "checkpoint/output_directory.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors_layout.h"
#include "checkpoint/sha256.h"
#include "megamoe/tensor.h"

namespace megamoe {

class SafetensorsWriter {
 public:
  // Creates the temporary file at its full size; it is removed unless finish() returns. Throws what layout_safetensors
  // and OutputFile throw.
  // {"format": "pt"} is what some readers insist on.
  SafetensorsWriter(OutputDirectory& output, std::string name, std::vector<TensorSpec> tensors,
                    const SafetensorsMetadata& metadata = {{"format", "pt"}});

  const std::vector<TensorInfo>& tensors() const noexcept { return layout_.tensors; }  // in order of their data

  // Adds the next bytes of a tensor: whole, or in pieces; pieces of different tensors may alternate. Keeps nothing in
  // memory. Throws kInvalidArgument for a tensor that was not planned or more bytes than it has. From one thread at a
  // time.
  void append(std::string_view tensor, std::span<const std::byte> bytes);
  // The same for a whole tensor; throws kInvalidArgument when dtype or shape differ from the plan.
  void write(std::string_view tensor, ConstTensorView view);

  // Syncs, reads the file back with the strict reader, compares every tensor's hash, gives the file its name and
  // records it. `sources` are the source tensors it was made of, as for OutputDirectory::is_finished.
  // Throws kInvalidArgument when a tensor is not complete, kBadFile when the disk gave other bytes than it was given.
  void finish(std::span<const ConstTensorView> sources);

 private:
  std::size_t position_of(std::string_view tensor) const;

  OutputDirectory& output_;
  std::string name_;
  SafetensorsLayout layout_;
  OutputFile file_;
  std::vector<std::uint32_t> by_name_;  // positions in layout_.tensors, names ascending
  // Of each tensor, in order of their data:
  std::vector<std::uint64_t> done_bytes_;
  std::vector<Sha256Digest> digests_;             // once it is complete
  std::unordered_map<std::size_t, Sha256> open_;  // while it is not
};

}  // namespace megamoe
