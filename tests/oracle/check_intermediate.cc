#include "oracle/check_intermediate.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "oracle/numbers.h"

namespace oracle {
namespace {

constexpr double kSlack = 4 * kUnit;
constexpr double kNothing = 1e-29;  // above the half-width that activate() gives to a zero

// One row under comparison, and where to report.
struct Judge {
  Report& report;
  std::string place;    // "row 37 (expert 5, token 12)"
  bool counted = true;  // its elements go into the report's counts

  void fail(std::int64_t column, const char* what, double got, double lo, double hi) const {
    if (report.outside++ > 0) return;
    std::ostringstream text;
    text.precision(9);
    text << place << ", col " << column << ": " << what << ": got " << got << ", allowed " << lo << " to " << hi;
    report.first = text.str();
  }

  void scale(std::int64_t column, const char* what, double got, double lo, double hi) const {
    if (!(got >= lo && got <= hi)) fail(column, what, got, lo, hi);
  }

  void code(std::int64_t column, double got, double lo, double hi) const {
    if (counted) ++report.elements;
    if (counted && lo != hi) ++report.ambiguous;
    if (!(got >= lo && got <= hi)) fail(column, "code", got, lo, hi);
  }
};

// The least and the greatest that max|A| can be over some elements.
struct Extent {
  double lo = 0.0;
  double hi = 0.0;
};

Extent extent(std::span<const Bounded> values) {
  Extent most;
  for (const Bounded& a : values) {
    most.lo = std::max(most.lo, std::fabs(a.value) - a.half);
    most.hi = std::max(most.hi, std::fabs(a.value) + a.half);
  }
  return most;
}

// The codes of elements that share one step, for a rounding rule.
template <class Round>
void check_codes(const Judge& judge, std::span<const Bounded> values, std::int64_t first_column, double step,
                 const Round& round, const std::vector<double>& got) {
  for (std::size_t n = 0; n < values.size(); ++n) {
    const Bounded& a = values[n];
    const double code = got[n];
    if (step == 0.0) {
      judge.code(first_column + static_cast<std::int64_t>(n), code, 0.0, 0.0);
      continue;
    }
    const double slack = kSlack * std::fabs(a.value / step);
    judge.code(first_column + static_cast<std::int64_t>(n), code, round((a.value - a.half) / step - slack),
               round((a.value + a.half) / step + slack));
  }
}

void check_bf16(const Judge& judge, const Rows& rows, std::int64_t row, std::span<const Bounded> values) {
  const std::vector<double> got = decode(rows, row);
  for (std::size_t c = 0; c < values.size(); ++c)
    judge.code(static_cast<std::int64_t>(c), got[c], round_bf16(values[c].value - values[c].half),
               round_bf16(values[c].value + values[c].half));
}

void check_nvfp4(const Judge& judge, const Rows& rows, std::int64_t row, std::span<const Bounded> values,
                 double static_global) {
  const auto r = static_cast<std::size_t>(row);
  const double global = static_cast<double>(rows.global[r]);
  if (static_global > 0.0) {
    judge.scale(0, "static global scale", global, static_global, static_global);
  } else {
    const Extent all = extent(values);
    if (all.hi > kNothing)  // a row of zeros may have any global scale
      judge.scale(0, "global scale", global, all.lo / 2688 * (1 - kSlack), all.hi / 2688 * (1 + kSlack));
  }
  for (std::size_t c = 0; c < values.size(); c += 16) {
    const auto block = values.subspan(c, 16);
    const std::size_t at = r * values.size() + c;
    const double s = e4m3(rows.sf[at / 16]);
    if (global > 0.0) {
      const Extent most = extent(block);
      judge.scale(static_cast<std::int64_t>(c), "block scale", s, round_e4m3(most.lo / (6 * global) * (1 - kSlack)),
                  round_e4m3(most.hi / (6 * global) * (1 + kSlack)));
    }
    std::vector<double> codes(16);
    for (std::size_t n = 0; n < 16; ++n) {
      const unsigned byte = rows.codes[(at + n) / 2];
      codes[n] = e2m1((at + n) % 2 == 0 ? byte & 15 : byte >> 4);
    }
    check_codes(judge, block, static_cast<std::int64_t>(c), s * global, round_e2m1, codes);
  }
}

void check_int8(const Judge& judge, const Rows& rows, std::int64_t row, std::span<const Bounded> values) {
  const std::size_t chunks = (values.size() + 63) / 64;
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    const auto part = values.subspan(64 * chunk, std::min<std::size_t>(64, values.size() - 64 * chunk));
    const double s = static_cast<double>(rows.int8_scale[static_cast<std::size_t>(row) * chunks + chunk]);
    const Extent most = extent(part);
    judge.scale(static_cast<std::int64_t>(64 * chunk), "scale", s, most.lo / 127 * (1 - kSlack),
                most.hi / 127 * (1 + kSlack));
    std::vector<double> codes;
    for (std::size_t n = 0; n < part.size(); ++n)
      codes.push_back(rows.int8[static_cast<std::size_t>(row) * values.size() + 64 * chunk + n]);
    check_codes(judge, part, static_cast<std::int64_t>(64 * chunk), s, round_int8, codes);
  }
}

void check_row(const Judge& judge, const Rows& rows, std::int64_t row, const ExpectedRow& expected,
               double static_global) {
  if (static_cast<std::int64_t>(expected.values.size()) != rows.inter || row >= rows.rows) {
    judge.fail(0, "rows and columns", static_cast<double>(row), 0.0, static_cast<double>(rows.rows));
    return;
  }
  switch (rows.format) {
    case Activations::kBf16:
      return check_bf16(judge, rows, row, expected.values);
    case Activations::kNvfp4:
      return check_nvfp4(judge, rows, row, expected.values, static_global);
    case Activations::kInt8:
      return check_int8(judge, rows, row, expected.values);
  }
}

// Rows lie in order of expert, and in token order within one; every row belongs to one choice.
void check_order(const Judge& judge, const Layer& layer, const Batch& batch, std::span<const std::int64_t> row_of) {
  std::int64_t next = 0;
  for (std::size_t e = 0; e < layer.experts.size(); ++e)
    for (std::size_t choice = 0; choice < batch.ids.size(); ++choice) {
      if (batch.ids[choice] < 0 || static_cast<std::size_t>(batch.ids[choice]) != e) continue;
      const auto got = static_cast<double>(row_of[choice]);
      judge.scale(static_cast<std::int64_t>(choice), "row of the choice", got, static_cast<double>(next),
                  static_cast<double>(next));
      ++next;
    }
}

}  // namespace

Report check_intermediate(const Layer& layer, const Batch& batch, const Expected& expected, const Intermediate& got) {
  Report report;
  check_order({report, "row order"}, layer, batch, got.row_of);
  if (report.outside > 0) return report;
  for (std::size_t choice = 0; choice < expected.routed.size(); ++choice) {
    const ExpectedRow& row = expected.routed[choice];
    if (!row.exists || !row.finite) continue;
    std::ostringstream place;
    place << "routed row " << got.row_of[choice] << " (expert " << batch.ids[choice] << ", token "
          << static_cast<std::int64_t>(choice) / layer.top_k << ")";
    const Expert& expert = layer.experts[static_cast<std::size_t>(batch.ids[choice])];
    check_row({report, place.str()}, got.routed, got.row_of[choice], row,
              layer.static_scale ? expert.down_input_scale : 0.0);
  }
  for (std::size_t t = 0; t < expected.shared.size(); ++t) {
    if (!expected.shared[t].finite) continue;
    check_row({report, "shared row " + std::to_string(t), false}, got.shared, static_cast<std::int64_t>(t),
              expected.shared[t], layer.static_scale ? layer.shared.down_input_scale : 0.0);
  }
  return report;
}

}  // namespace oracle
