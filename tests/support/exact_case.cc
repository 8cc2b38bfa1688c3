#include "support/exact_case.h"

#include <array>

namespace megamoe::test {
namespace {

// Columns of x with a meaning; their mirrors are 0.
constexpr std::int64_t kGateColumn = 1;  // x = 32
constexpr std::int64_t kUpColumn = 2;    // x = 8, or 64 for int8
constexpr std::int64_t kUnitColumn = 3;  // x = 1 for int8, else 0
constexpr unsigned kOne = 0x38;          // E4M3 codes
constexpr unsigned kTwo = 0x40;
constexpr unsigned kFourteen = 0x56;

constexpr unsigned negated(unsigned code) { return code ^ 8u; }

struct Builder {
  const Problem& problem;
  Random& random;

  bool int8() const { return problem.activations == ActivationFormat::kInt8; }
  bool own_global() const {
    return problem.activations == ActivationFormat::kNvfp4 && problem.activation_scale == ActivationScale::kPerToken;
  }
  bool special(std::int64_t c) const { return c == kGateColumn || c == kUpColumn || c == kUnitColumn; }

  // The largest value of x in a block of 16: 6 * 2^n, or 2688 where the row's global scale comes from.
  double block_step(std::int64_t block) const {
    const std::int64_t blocks = problem.hidden / 16;
    const std::int64_t from_end = std::min(block, blocks - 1 - block);
    if (from_end == 0) return 8.0;
    if (from_end == 1 && own_global()) return 448.0;
    return from_end % 2 == 0 ? 2.0 : 1.0;
  }

  double value(std::int64_t c) {
    if (int8()) return c % 64 == 5 ? 127.0 : static_cast<double>(random.below(255) - 127);
    constexpr std::array<double, 8> kMagnitudes = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
    const double magnitude = c % 16 == 7 ? 6.0 : kMagnitudes[static_cast<std::size_t>(random.below(8))];
    return block_step(c / 16) * (random.below(2) == 0 ? magnitude : -magnitude);
  }

  std::vector<std::uint16_t> token(double size) {
    const auto n = static_cast<std::size_t>(problem.hidden);
    std::vector<double> x(n);
    for (std::size_t c = 0; c < n / 2; ++c) x[c] = x[n - 1 - c] = value(static_cast<std::int64_t>(c));
    if (int8())  // every 64 need their 127, and so does the image of it
      for (std::size_t c = 5; c < n; c += 64) x[c] = x[n - 1 - c] = 127.0;
    for (const std::int64_t c : {kGateColumn, kUpColumn, kUnitColumn}) x[n - 1 - static_cast<std::size_t>(c)] = 0.0;
    x[kGateColumn] = 32.0;
    x[kUpColumn] = size * (int8() ? 64.0 : 8.0);
    x[kUnitColumn] = int8() ? 1.0 : 0.0;
    std::vector<std::uint16_t> bits;
    for (const double v : x) bits.push_back(to_bf16(v));
    return bits;
  }

  // Row `row` of gate or up: opposite codes at mirrored columns, mirrored scales, nothing at the special ones.
  void balanced_row(OwnedMatrix& matrix, std::int64_t row, unsigned first_scale) {
    const std::int64_t n = problem.hidden;
    for (std::int64_t c = 0; c < n / 2; ++c) {
      const auto code = special(c) ? 0u : static_cast<unsigned>(random.below(16));
      matrix.set_code(row, c, code);
      matrix.set_code(row, n - 1 - c, negated(code));
    }
    for (std::int64_t b = 0; b <= (n / 16 - 1) / 2; ++b) {
      const unsigned scale = b == 0 ? first_scale : (random.below(2) == 0 ? kOne : kTwo);
      matrix.set_scale(row, 16 * b, scale);
      matrix.set_scale(row, n - 16 - 16 * b, scale);
    }
  }

  void gate_row(OwnedMatrix& gate, std::int64_t i, bool large) {
    balanced_row(gate, i, kOne);
    gate.set_code(i, kGateColumn, large ? 4 : 2);  // 2 or 1: G = 128 or 64 under the global scale 2
  }

  // Rows that make the largest value of their group of 64, 16, or of the whole row; the others stay below.
  void up_row(OwnedMatrix& up, std::int64_t i, bool first_of_group) {
    const bool row_maximum = own_global() && i == 3;
    balanced_row(up, i, row_maximum ? kFourteen : kOne);
    if (int8()) {
      up.set_code(i, kUpColumn, first_of_group ? 4u : static_cast<unsigned>(random.below(2)));  // 2 * 64 - 1, or 0, 32
      up.set_code(i, kUnitColumn, first_of_group ? 0xAu : static_cast<unsigned>(random.below(16)));
    } else {
      up.set_code(i, kUpColumn, first_of_group || row_maximum ? 7u : static_cast<unsigned>(random.below(16)));
    }
  }

  OwnedExpert expert(std::int64_t inter) {
    OwnedExpert e;
    e.gate = OwnedMatrix::zeros(WeightFormat::kNvfp4, inter, problem.hidden);
    e.up = OwnedMatrix::zeros(WeightFormat::kNvfp4, inter, problem.hidden);
    e.down = OwnedMatrix::zeros(WeightFormat::kNvfp4, problem.hidden, inter);
    const std::int64_t group = int8() ? 64 : 16;
    for (std::int64_t i = 0; i < inter; ++i) {
      const bool first = i % group == 9;
      const bool row_maximum = own_global() && i == 3;
      gate_row(e.gate, i, !row_maximum && (first || random.below(2) == 0));
      up_row(e.up, i, first);
    }
    for (std::byte& both : e.down.data) both = static_cast<std::byte>(random.bits());
    for (std::byte& scale : e.down.sf) scale = static_cast<std::byte>(random.below(2) == 0 ? kOne : kTwo);
    e.gate.global_scale = 2.0f;
    e.up.global_scale = 0.25f;
    e.down.global_scale = 0.125f;
    e.gate_up_input_scale = 1.0f;
    e.down_input_scale = 1.0f;
    return e;
  }
};

}  // namespace

Case make_exact_case(std::string_view problem, ExactTokens tokens) {
  Case c;
  c.test = parse_test_problem(problem);
  const Problem& p = c.test.problem;
  Random random(c.test.seed);
  Builder build{p, random};
  for (std::int64_t e = 0; e < p.experts; ++e) c.weights.experts.push_back(build.expert(p.inter));
  if (p.shared.inter > 0) c.weights.shared = build.expert(p.shared.inter);
  constexpr double kSizes[3] = {1.0, 0.5, 2.0};
  for (std::int64_t t = 0; t < c.test.tokens; ++t)
    for (const std::uint16_t bits : build.token(tokens == ExactTokens::kDiffer ? kSizes[t % 3] : 1.0))
      c.x.push_back(bits);
  c.ids = make_ids(c.test, random);
  constexpr float kWeights[3] = {0.25f, 0.5f, 1.0f};
  for (std::size_t i = 0; i < c.ids.size(); ++i)
    c.topk_weights.push_back(kWeights[static_cast<std::size_t>(random.below(3))]);
  return c;
}

}  // namespace megamoe::test
