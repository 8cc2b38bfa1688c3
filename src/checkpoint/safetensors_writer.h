// Writes one safetensors file into an OutputDirectory: planned first, then filled in any order, then checked and named.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/output_directory.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors_layout.h"
#include "checkpoint/xxh3.h"
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
  // memory. Throws kInvalidArgument for a tensor that was not planned or more bytes than it has. From any thread, for
  // different tensors.
  void append(std::string_view tensor, std::span<const std::byte> bytes);
  // The same for a whole tensor, and returns what its bytes hash to; throws kInvalidArgument when dtype or shape differ
  // from the plan.
  Xxh3Digest write(std::string_view tensor, ConstTensorView view);

  // Syncs, reads the file back with the strict reader, compares every tensor's hash, gives the file its name and
  // records it. `sources` are what the source tensors hash to that it was made of, in the order of
  // OutputDirectory::is_finished.
  // Throws kInvalidArgument when a tensor is not complete, kBadFile when the disk gave other bytes than it was given.
  void finish(std::span<const Xxh3Digest> sources);

 private:
  std::size_t position_of(std::string_view tensor) const;

  OutputDirectory& output_;
  std::string name_;
  SafetensorsLayout layout_;
  OutputFile file_;
  std::vector<std::uint32_t> by_name_;  // positions in layout_.tensors, names ascending
  // Of each tensor, in order of their data:
  std::vector<std::uint64_t> done_bytes_;
  std::vector<Xxh3Digest> digests_;          // once it is complete
  std::vector<std::unique_ptr<Xxh3>> open_;  // while it is not
};

}  // namespace megamoe
