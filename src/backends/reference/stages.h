// The stages of one forward call, in order, and the memory that passes between them.
#pragma once

#include <cstdint>
#include <span>

#include "backends/reference/activation_rows.h"
#include "backends/reference/operand.h"
#include "backends/reference/prepare.h"
#include "base/arena.h"
#include "megamoe/moe.h"

namespace megamoe::reference {

// Rows that one expert works on before its next weight row is unpacked.
inline constexpr std::int64_t kRowsAtOnce = 16;

// What passes through experts: one row a choice for the routed ones, ordered by expert; one row a token for the shared.
struct Rows {
  ActivationRows x;    // [rows, hidden]
  ActivationRows h;    // [rows, inter]
  std::span<float> y;  // [rows, hidden]

  static Rows take(Carver& carver, ActivationFormat format, std::int64_t rows, std::int64_t hidden, std::int64_t inter);
};

struct Workspace {
  Workspace(Carver& carver, const Problem& problem, std::int64_t max_tokens);

  std::span<std::int64_t> row_begin;  // [experts + 1]
  std::span<std::int64_t> row_of;     // [tokens * top_k]
  std::span<std::int64_t> choice_of;  // [tokens * top_k]
  Rows routed;
  Rows shared;  // empty without a shared expert

  // Scratch: `a` are the rows at once, `w` and `w2` one row of weights, `values` the rows at once before rounding.
  Operand a[kRowsAtOnce];
  Operand w;
  Operand w2;
  std::span<float> values;  // [kRowsAtOnce, widest]
};

// Consecutive rows of one expert.
struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// One call with everything that its stages share.
struct Call {
  const Weights& weights;
  const Problem& problem;
  const RunArgs& args;
  Workspace& ws;

  RowRange rows_of(std::int64_t expert) const {
    const auto e = static_cast<std::size_t>(expert);
    return {ws.row_begin[e], ws.row_begin[e + 1]};
  }
};

// x of each row's token in the activations' format, for routed rows and shared ones.
void gather_quantize(const Call& call);

// h = activate(x . gate + bias, x . up + bias), then times the row's top-k weight where the problem puts it before the
// second GEMM, then rounded once to the activations' format.
void gemm1_activation(const Call& call);

// y = h . down + bias, f32
void gemm2(const Call& call);

// out[t] = sum of weight * y over the token's choices in ascending order, then gate * shared y; one rounding.
void combine(const Call& call);

}  // namespace megamoe::reference
