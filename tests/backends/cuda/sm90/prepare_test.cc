// A layer prepared on the device, brought back and unpacked: the canonical weights again.
#include "backends/cuda/sm90/prepare.h"

#include <map>

#include "backends/cuda/sm90/on_hopper.h"
#include "backends/cuda/sm90/unpack.h"
#include "base/device_memory.h"
#include "support/test_case.h"

namespace megamoe::sm90::test {
namespace {

using megamoe::test::Case;
using megamoe::test::make_case;
using megamoe::test::OwnedExpert;
using megamoe::test::OwnedMatrix;
using megamoe::test::parse_test_problem;

std::map<std::string, std::vector<std::byte>> download(const PreparedWeights& weights) {
  std::map<std::string, std::vector<std::byte>> all;
  for (const Section& section : sm90_backend().prepared_form()->sections(weights)) {
    std::vector<std::byte>& bytes = all[section.name];
    bytes.resize(section.bytes.size());
    device_download(bytes.data(), section.bytes.data(), bytes.size());
  }
  return all;
}

void expect_matrix(const std::string& what, const OwnedMatrix& want, const PackedRows& got, int matrix) {
  for (std::int64_t row = 0; row < want.rows; ++row)
    for (std::int64_t k = 0; k < want.cols; ++k) {
      const std::int64_t i = row * want.cols + k;
      if (want.format == WeightFormat::kBf16) {
        const unsigned bits = byte_at(want.data.data(), 2 * i) | byte_at(want.data.data(), 2 * i + 1) << 8;
        ASSERT_EQ(unpack_bf16(got, matrix, row, k), bits) << what << ", row " << row << ", k " << k;
        continue;
      }
      const unsigned sf = byte_at(want.sf.data(), i / 16);
      ASSERT_EQ(unpack_scale(got, matrix, row, k), sf) << what << ", row " << row << ", k " << k;
      // Codes of a block whose scale is zero come back as zeros.
      const unsigned code = sf == 0 ? 0 : byte_at(want.data.data(), i / 2) >> (i % 2 * 4) & 15u;
      ASSERT_EQ(unpack_code(got, matrix, row, k), code) << what << ", row " << row << ", k " << k;
    }
}

void expect_expert(const std::string& what, const OwnedExpert& want, const std::byte* gate_up, const std::byte* down) {
  const PackedRows pairs{.packed = gate_up, .rows = want.gate.rows, .k = want.gate.cols, .pairs = true};
  const PackedRows single{.packed = down, .rows = want.down.rows, .k = want.down.cols};
  expect_matrix(what + "'s gate", want.gate, pairs, 0);
  expect_matrix(what + "'s up", want.up, pairs, 1);
  expect_matrix(what + "'s down", want.down, single, 0);
}

class sm90_prepare : public OnHopper, public ::testing::WithParamInterface<const char*> {};

TEST_P(sm90_prepare, what_it_packs_unpacks_to_the_canonical_weights) {
  const Case c = make_case(parse_test_problem(GetParam()));
  const Problem& p = c.test.problem;
  const auto weights = sm90_backend().prepare(p, c.weights, 1);
  const auto sections = download(*weights);
  const std::int64_t gate_up_bytes = matrix_bytes(p.weights, 2 * p.inter, p.hidden);
  const std::int64_t down_bytes = matrix_bytes(p.weights, p.hidden, p.inter);
  for (std::int64_t e = 0; e < p.experts; ++e)
    expect_expert("expert " + std::to_string(e), c.weights.experts[static_cast<std::size_t>(e)],
                  sections.at("routed.gate_up").data() + e * gate_up_bytes,
                  sections.at("routed.down").data() + e * down_bytes);
  if (p.shared.inter != 0)
    expect_expert("the shared expert", c.weights.shared, sections.at("shared.gate_up").data(),
                  sections.at("shared.down").data());
}

INSTANTIATE_TEST_SUITE_P(problems, sm90_prepare,
                         ::testing::Values("t=1 h=64 i=48 e=3 k=1 w=nvfp4 a=bf16",
                                           "t=1 h=208 i=176 e=2 k=1 w=nvfp4 a=bf16 shared=80:bf16",
                                           "t=1 h=144 i=80 e=2 k=1 w=bf16 a=bf16 shared=48:nvfp4",
                                           "t=1 h=512 i=256 e=4 k=1 w=nvfp4 a=nvfp4"));

}  // namespace
}  // namespace megamoe::sm90::test
