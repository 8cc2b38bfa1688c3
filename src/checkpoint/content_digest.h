// What a safetensors file, or a list of tensors, holds: one XXH3 over the XXH3s of the tensors.
//
// A tree and not one pass over the file, because tensors arrive in any order while a file is written, and because
// independent tensors hash on all cores.
#pragma once

#include <span>
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/xxh3.h"
#include "megamoe/tensor.h"

namespace megamoe {

// Of each tensor's data, on all cores.
std::vector<Xxh3Digest> tensor_digests(std::span<const ConstTensorView> tensors);
std::vector<Xxh3Digest> tensor_digests(const SafetensorsFile& file);  // in order of their data

// XXH3(first || tensors[0] || tensors[1] || ...). For a safetensors file, `first` is everything before its data; for
// a list of source tensors it is empty.
Xxh3Digest combine_digests(std::span<const std::byte> first, std::span<const Xxh3Digest> tensors);

// Of a whole safetensors file.
Xxh3Digest content_digest(const SafetensorsFile& file);

}  // namespace megamoe
