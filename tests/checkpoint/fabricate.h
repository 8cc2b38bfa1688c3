// Small models of every family, made up tensor by tensor. The names are spelled out here again, apart from the tables
// under test.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/tensor.h"

namespace megamoe::test {

using Json = nlohmann::ordered_json;

inline constexpr std::int64_t kHidden = 64;
inline constexpr std::int64_t kInter = 48;
inline constexpr std::int64_t kExperts = 8;

struct FakeTensor {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  std::string bytes;
  std::string shard = "model.safetensors";
};

struct FakeModel {
  Json config;
  std::optional<Json> hf_quant;
  std::vector<FakeTensor> tensors;
  std::string experts;                   // "model.layers.1.mlp.experts" of the first MoE layer
  std::vector<std::string> projections;  // gate, up, down as the family calls them

  FakeTensor& at(const std::string& name);  // fails the test for a name that is not there
  void erase(const std::string& name);
  void add(FakeTensor tensor) { tensors.push_back(std::move(tensor)); }
  // All names that begin with `from`.
  void rename_prefix(const std::string& from, const std::string& to);

  std::string expert(int expert, int projection) const {
    return experts + "." + std::to_string(expert) + "." + projections[static_cast<std::size_t>(projection)];
  }
  // Writes config.json, hf_quant_config.json, the shards, and an index where there are several.
  void write(const std::string& dir) const;
};

// The model_types of all families.
std::vector<std::string> fake_families();
// BF16; layer 0 is dense in families that have dense layers.
FakeModel fake_model(const std::string& model_type);
// The same with its experts in NVFP4; "modelopt" or "compressed-tensors". Both dialects of one model mean the same
// bits.
FakeModel fake_quantised(const std::string& model_type, const std::string& dialect, bool input_scales = false);

std::string float_bytes(float value);
float float_of(const std::string& bytes);
std::string bf16_bytes(std::int64_t elements, std::uint32_t seed);

}  // namespace megamoe::test
