// What a safetensors file, or a list of tensors, holds: one SHA-256 over the SHA-256s of the tensors.
//
// A tree and not one pass over the file, because tensors arrive in any order while a file is written, and because
// independent tensors hash on all cores.
#pragma once

#include <span>
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/sha256.h"
#include "megamoe/tensor.h"

namespace megamoe {

// Of each tensor's data, on all cores.
std::vector<Sha256Digest> tensor_digests(std::span<const ConstTensorView> tensors);
std::vector<Sha256Digest> tensor_digests(const SafetensorsFile& file);  // in order of their data

// SHA-256(first || tensors[0] || tensors[1] || ...). For a safetensors file, `first` is everything before its data; for
// a list of source tensors it is empty.
Sha256Digest combine_digests(std::span<const std::byte> first, std::span<const Sha256Digest> tensors);

// Of a whole safetensors file.
Sha256Digest content_digest(const SafetensorsFile& file);

}  // namespace megamoe
