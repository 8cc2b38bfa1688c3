// The operations on device pointers against double loops over the same operands.
#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>

#include "backends/cuda/common/device_array.h"
#include "backends/cuda/sm90/on_hopper.h"
#include "base/cuda_check.h"
#include "megamoe/cuda_ops.h"
#include "megamoe/error.h"
#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "megamoe/quant/nvfp4_block.h"
#include "support/test_case.h"

namespace megamoe::sm90::test {
namespace {

using cuda::test::DeviceArray;
using cuda::test::poison;
using megamoe::test::from_bf16;
using megamoe::test::OwnedMatrix;
using megamoe::test::Random;
using megamoe::test::random_matrix;
using megamoe::test::to_bf16;

struct Params {
  const char* name;
  std::int64_t n, k;
  std::vector<std::int32_t> rows_of;  // of each expert
  bool nvfp4 = false;                 // activations
  std::int64_t unused_rows = 0;       // of A, past the last offset
};

void PrintTo(const Params& params, std::ostream* out) { *out << params.name; }

double code_value(const std::vector<std::byte>& codes, std::int64_t i) {
  const unsigned both = std::to_integer<unsigned>(codes[static_cast<std::size_t>(i / 2)]);
  return static_cast<double>(e2m1_to_float(static_cast<std::uint8_t>(both >> (i % 2 * 4) & 15u)));
}

double scale_value(const std::vector<std::byte>& sf, std::int64_t i) {
  return static_cast<double>(e4m3_to_float(std::to_integer<std::uint8_t>(sf[static_cast<std::size_t>(i / 16)])));
}

std::vector<double> values_of(const OwnedMatrix& matrix, double global_scale) {
  std::vector<double> values(static_cast<std::size_t>(matrix.rows * matrix.cols));
  for (std::int64_t i = 0; i < std::ssize(values); ++i)
    values[static_cast<std::size_t>(i)] = code_value(matrix.data, i) * scale_value(matrix.sf, i) * global_scale;
  return values;
}

struct Sum {
  double value = 0;
  double error = 0;  // of an fp32 sum in any order, and its scales' two roundings
};

Sum dot(const double* a, const double* b, std::int64_t k) {
  Sum sum;
  double size = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    sum.value += a[i] * b[i];
    size += std::abs(a[i] * b[i]);
  }
  sum.error = static_cast<double>(k + 4) * 0x1p-23 * size;
  return sum;
}

// One call's operands, on the host and on the device.
class Call {
 public:
  Call(const CudaOps& ops, const Params& params, bool fused)
      : params_(params), fused_(fused), shape_{std::ssize(params.rows_of), params.n, params.k} {
    Random random(static_cast<std::uint64_t>(params.n * 7 + params.k));
    std::int32_t end = 0;
    for (const std::int32_t rows : params.rows_of) offsets_.push_back(end += rows);
    rows_ = end + params.unused_rows;
    make_weights(ops, random);
    make_x(random);
    workspace_bytes_ =
        ops.workspace_bytes(shape_, rows_, params.nvfp4 ? ActivationFormat::kNvfp4 : ActivationFormat::kBf16);
  }

  std::int64_t out_columns() const { return fused_ ? params_.n / 2 : params_.n; }
  std::int64_t rows() const { return rows_; }
  const std::vector<std::int32_t>& offsets() const { return offsets_; }

  GroupedGemm args(const DeviceArray<std::int32_t>& offsets, const DeviceArray<std::uint16_t>& out,
                   const DeviceArray<std::byte>& workspace) const {
    GroupedGemm call{.shape = shape_,
                     .rows = rows_,
                     .packed = reinterpret_cast<const std::byte*>(packed_->data()),
                     .global_scale = scales_[0]->data(),
                     .up_global_scale = fused_ ? scales_[1]->data() : nullptr,
                     .expert_offsets = offsets.data(),
                     .output = out.data(),
                     .workspace = {workspace.data(), workspace_bytes_}};
    if (params_.nvfp4) {
      call.x_codes = x_codes_->data();
      call.x_sf = x_sf_->data();
      call.x_global_scale = x_scale_->data();
    } else {
      call.x = x_->data();
    }
    return call;
  }
  std::size_t workspace_bytes() const { return workspace_bytes_; }

  std::vector<std::uint16_t> run(const CudaOps& ops, const Activation& activation) const {
    const DeviceArray<std::int32_t> offsets(offsets_);
    const DeviceArray<std::uint16_t> out(static_cast<std::size_t>(rows_ * out_columns()));
    const DeviceArray<std::byte> workspace(workspace_bytes_);
    submit(ops, args(offsets, out, workspace), activation);
    return out.host();
  }

  void submit(const CudaOps& ops, const GroupedGemm& call, const Activation& activation) const {
    if (fused_)
      ops.grouped_swiglu(call, activation);
    else
      ops.grouped_gemm(call);
  }

  void check(const std::vector<std::uint16_t>& got, const Activation& activation) const {
    std::int64_t row = 0;
    for (std::size_t e = 0; e < params_.rows_of.size(); ++e) {
      const std::vector<double> first = values_of(weights_[0][e], static_cast<double>(weights_[0][e].global_scale));
      const std::vector<double> up =
          fused_ ? values_of(weights_[1][e], static_cast<double>(weights_[1][e].global_scale)) : std::vector<double>();
      for (; row < offsets_[e]; ++row) {
        const std::vector<double> x = x_row(row, e);
        for (std::int64_t i = 0; i < out_columns(); ++i) {
          Sum want = dot(x.data(), first.data() + i * params_.k, params_.k);
          if (fused_) want = swiglu(want, dot(x.data(), up.data() + i * params_.k, params_.k), activation);
          const double found = from_bf16(got[static_cast<std::size_t>(row * out_columns() + i)]);
          const double bound = want.error + std::abs(want.value) * 0x1.1p-8 + 0x1p-120;
          ASSERT_NEAR(found, want.value, bound)
              << params_.name << ": row " << row << " (expert " << e << "), column " << i << ", "
              << 100 * std::abs(found - want.value) / bound << " % of the bound";
        }
      }
    }
    for (std::size_t i = static_cast<std::size_t>(row * out_columns()); i < got.size(); ++i)
      ASSERT_EQ(got[i], poison<std::uint16_t>()) << params_.name << ": wrote a row that no expert has";
  }

 private:
  static Sum swiglu(Sum gate, Sum up, const Activation& activation) {
    const double limit = static_cast<double>(activation.limit);
    const double g = std::min(gate.value, limit);
    const double u = std::clamp(up.value, -limit, limit);
    const double silu = g / (1 + std::exp(-g));
    // |silu'| < 1.1; the device's exp and division are good to a few 2^-24.
    return {silu * u,
            1.1 * gate.error * (std::abs(u) + up.error) + std::abs(silu) * up.error + std::abs(silu * u) * 0x1p-20};
  }

  void make_weights(const CudaOps& ops, Random& random) {
    const std::int64_t features = out_columns();
    std::vector<float> scales[2];
    packed_.emplace(static_cast<std::size_t>(shape_.experts) * ops.packed_bytes(shape_));
    for (std::int64_t e = 0; e < shape_.experts; ++e) {
      auto* const packed =
          reinterpret_cast<std::byte*>(packed_->data()) + static_cast<std::size_t>(e) * ops.packed_bytes(shape_);
      for (int m = 0; m < (fused_ ? 2 : 1); ++m) {
        weights_[m].push_back(random_matrix(WeightFormat::kNvfp4, features, params_.k,
                                            2.0 / std::sqrt(static_cast<double>(params_.k)), random));
        weights_[m].back().global_scale *= m == 1 ? 0.25f : static_cast<float>(1 + e);
        scales[m].push_back(weights_[m].back().global_scale);
      }
      // From the host, and every other expert from the device.
      if (e % 2 == 0) {
        if (fused_)
          ops.pack_gate_up(weights_[0].back().view(), weights_[1].back().view(), MemoryKind::kHost, packed);
        else
          ops.pack(weights_[0].back().view(), MemoryKind::kHost, packed);
      } else {
        const DeviceArray<std::byte> data[2] = {DeviceArray(weights_[0].back().data),
                                                DeviceArray(weights_[fused_].back().data)};
        const DeviceArray<std::byte> sf[2] = {DeviceArray(weights_[0].back().sf),
                                              DeviceArray(weights_[fused_].back().sf)};
        MatrixView views[2] = {weights_[0].back().view(), weights_[fused_].back().view()};
        for (int m = 0; m < 2; ++m) {
          views[m].data = data[m].data();
          views[m].sf = sf[m].data();
        }
        if (fused_)
          ops.pack_gate_up(views[0], views[1], MemoryKind::kCuda, packed);
        else
          ops.pack(views[0], MemoryKind::kCuda, packed);
        cuda_check(cudaDeviceSynchronize(), "packing");
      }
    }
    for (int m = 0; m < 2; ++m) scales_[m].emplace(scales[m]);
  }

  void make_x(Random& random) {
    const auto elements = static_cast<std::size_t>(rows_ * params_.k);
    if (!params_.nvfp4) {
      for (std::size_t i = 0; i < elements; ++i) x_host_.push_back(to_bf16(random.normal()));
      x_.emplace(x_host_);
      return;
    }
    std::vector<std::uint8_t> codes, sf;
    for (std::size_t i = 0; i < elements / 2; ++i) codes.push_back(static_cast<std::uint8_t>(random.bits()));
    for (std::size_t i = 0; i < elements / 16; ++i) sf.push_back(static_cast<std::uint8_t>(0x28 + random.below(0x18)));
    for (std::int64_t e = 0; e < shape_.experts; ++e)
      x_scale_host_.push_back(static_cast<float>(0.1 + 0.07 * static_cast<double>(e)));
    x_codes_.emplace(codes);
    x_sf_.emplace(sf);
    x_scale_.emplace(x_scale_host_);
    for (const std::uint8_t byte : codes) x_codes_host_.push_back(std::byte{byte});
    for (const std::uint8_t byte : sf) x_sf_host_.push_back(std::byte{byte});
  }

  std::vector<double> x_row(std::int64_t row, std::size_t expert) const {
    std::vector<double> x(static_cast<std::size_t>(params_.k));
    for (std::int64_t i = 0; i < params_.k; ++i) {
      const std::int64_t at = row * params_.k + i;
      x[static_cast<std::size_t>(i)] = params_.nvfp4 ? code_value(x_codes_host_, at) * scale_value(x_sf_host_, at) *
                                                           static_cast<double>(x_scale_host_[expert])
                                                     : from_bf16(x_host_[static_cast<std::size_t>(at)]);
    }
    return x;
  }

  Params params_;
  bool fused_;
  GroupedShape shape_;
  std::int64_t rows_ = 0;
  std::size_t workspace_bytes_ = 0;
  std::vector<std::int32_t> offsets_;
  std::vector<OwnedMatrix> weights_[2];
  std::vector<std::uint16_t> x_host_;
  std::vector<std::byte> x_codes_host_, x_sf_host_;
  std::vector<float> x_scale_host_;
  std::optional<DeviceArray<std::uint8_t>> packed_, x_codes_, x_sf_;
  std::optional<DeviceArray<std::uint16_t>> x_;
  std::optional<DeviceArray<float>> x_scale_, scales_[2];
};

class sm90_ops : public OnHopper, public ::testing::WithParamInterface<Params> {};

TEST_P(sm90_ops, grouped_gemm_equals_double_loops) {
  const CudaOps ops;
  const Call call(ops, GetParam(), false);
  call.check(call.run(ops, {}), {});
}

TEST_P(sm90_ops, grouped_swiglu_equals_double_loops) {
  const CudaOps ops;
  const Call call(ops, GetParam(), true);
  for (const float limit : {INFINITY, 1.5f}) {
    const Activation activation{.limit = limit};
    call.check(call.run(ops, activation), activation);
  }
}

TEST_P(sm90_ops, a_captured_graph_replays_for_other_offsets) {
  const CudaOps ops;
  for (const bool fused : {false, true}) {
    const Call call(ops, GetParam(), fused);
    const std::vector<std::uint16_t> want = call.run(ops, {});
    DeviceArray<std::int32_t> offsets(std::vector<std::int32_t>(call.offsets().size(), 0));
    const DeviceArray<std::uint16_t> out(want.size());
    const DeviceArray<std::byte> workspace(call.workspace_bytes());
    cudaStream_t stream = nullptr;
    cuda_check(cudaStreamCreate(&stream), "stream");
    cudaGraph_t graph = nullptr;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    GroupedGemm args = call.args(offsets, out, workspace);
    args.stream = stream;
    call.submit(ops, args, {});
    cuda_check(cudaStreamEndCapture(stream, &graph), "capture");
    cudaGraphExec_t replay = nullptr;
    cuda_check(cudaGraphInstantiate(&replay, graph, 0), "graph");
    cuda_check(cudaGraphLaunch(replay, stream), "graph");
    cuda_check(cudaStreamSynchronize(stream), "graph");
    for (const std::uint16_t bits : out.host()) ASSERT_EQ(bits, poison<std::uint16_t>()) << "no expert has rows yet";
    cuda_check(cudaMemcpy(offsets.data(), call.offsets().data(), call.offsets().size() * 4, cudaMemcpyHostToDevice),
               "offsets");
    for (int i = 0; i < 20; ++i) {
      cuda_check(cudaGraphLaunch(replay, stream), "graph");
      cuda_check(cudaStreamSynchronize(stream), "graph");
      ASSERT_TRUE(out.host() == want) << (fused ? "fused" : "plain") << ", replay " << i;
    }
    cuda_check(cudaGraphExecDestroy(replay), "graph");
    cuda_check(cudaGraphDestroy(graph), "graph");
    cuda_check(cudaStreamDestroy(stream), "stream");
  }
}

INSTANTIATE_TEST_SUITE_P(shapes, sm90_ops,
                         ::testing::Values(Params{"a row or two an expert", 96, 128, {1, 0, 2, 1}},
                                           Params{"one row, nvfp4", 160, 80, {0, 0, 1, 0, 0}, true},
                                           Params{"a stream of 32", 224, 208, {9, 30, 0, 17}, true, 3},
                                           Params{"uneven", 320, 144, {100, 3, 250, 40}, false, 7},
                                           Params{"uneven, nvfp4", 320, 144, {100, 3, 250, 40}, true},
                                           Params{"even", 128, 64, {40, 40, 40}},
                                           Params{"one expert, many rows", 288, 208, {700}, false},
                                           Params{"one expert, many rows, nvfp4", 288, 208, {613}, true, 50},
                                           Params{"many experts", 64, 64, std::vector<std::int32_t>(1500, 2)}));

class sm90_ops_once : public OnHopper {};

TEST_F(sm90_ops_once, no_rows_is_no_launch) {
  const CudaOps ops;
  const Call call(ops, {"no rows", 32, 32, {0, 0}}, false);
  EXPECT_TRUE(call.run(ops, {}).empty());
}

TEST_F(sm90_ops_once, offsets_that_go_back_or_beyond_write_inside_the_output) {
  const CudaOps ops;
  const Call call(ops, {"bad offsets", 64, 64, {10, 10, 10, 10}}, false);
  const DeviceArray<std::int32_t> offsets(std::vector<std::int32_t>{20, -5, 1000, 7});
  const DeviceArray<std::uint16_t> out(static_cast<std::size_t>(call.rows() * 64 + 4096));
  const DeviceArray<std::byte> workspace(call.workspace_bytes() + 4096);
  call.submit(ops, call.args(offsets, out, workspace), {});
  const std::vector<std::uint16_t> got = out.host();
  for (std::size_t i = static_cast<std::size_t>(call.rows() * 64); i < got.size(); ++i)
    ASSERT_EQ(got[i], poison<std::uint16_t>());
  const std::vector<std::byte> space = workspace.host();
  for (std::size_t i = call.workspace_bytes(); i < space.size(); ++i) ASSERT_EQ(space[i], poison<std::byte>());
}

TEST_F(sm90_ops_once, refuses_what_it_cannot_take) {
  const CudaOps ops;
  const auto code_of = [](const auto& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.code();
    }
    return Code::kInternal;
  };
  EXPECT_EQ(code_of([&] { ops.packed_bytes({.experts = 1, .n = 24, .k = 16}); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { ops.workspace_bytes({1, 16, 16}, -1, ActivationFormat::kBf16); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([&] { ops.workspace_bytes({1, 16, 16}, 1, ActivationFormat::kInt8); }), Code::kUnsupported);
  const Call call(ops, {"refused", 64, 64, {3}}, false);
  const DeviceArray<std::int32_t> offsets(call.offsets());
  const DeviceArray<std::uint16_t> out(3 * 64);
  const DeviceArray<std::byte> workspace(call.workspace_bytes());
  GroupedGemm args = call.args(offsets, out, workspace);
  args.workspace = args.workspace.first(args.workspace.size() - 1);
  EXPECT_EQ(code_of([&] { ops.grouped_gemm(args); }), Code::kInvalidArgument);
  args = call.args(offsets, out, workspace);
  args.x = nullptr;
  EXPECT_EQ(code_of([&] { ops.grouped_gemm(args); }), Code::kInvalidArgument);
  // More of x than the gathering warps can count. Its workspace is too small as well, so the sentence tells.
  args = call.args(offsets, out, workspace);
  args.rows = (std::int64_t{1} << 29) + 1;
  try {
    ops.grouped_gemm(args);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("rows * k"), std::string::npos) << error.what();
  }
}

TEST_F(sm90_ops_once, deinterleave_quantize_equals_the_hosts_bytes) {
  const CudaOps ops;
  constexpr std::int64_t kRows = 5, kInter = 96, kGroup = 8;
  Random random(3);
  std::vector<std::uint16_t> fused;
  for (std::int64_t i = 0; i < kRows * 2 * kInter; ++i) fused.push_back(to_bf16(random.normal()));
  const DeviceArray<std::uint16_t> x(fused);
  const DeviceArray<float> scale(std::vector<float>{0.003f});
  const DeviceArray<std::uint8_t> codes(kRows * kInter / 2), sf(kRows * kInter / 16);
  for (const bool bridge : {false, true}) {
    ops.deinterleave_quantize({.fused = x.data(),
                               .rows = kRows,
                               .inter = kInter,
                               .granularity = kGroup,
                               .bridge_recipe = bridge,
                               .global_scale = scale.data(),
                               .codes = codes.data(),
                               .sf = sf.data()});
    const std::vector<std::uint8_t> got_codes = codes.host(), got_sf = sf.host();
    for (std::int64_t row = 0; row < kRows; ++row) {
      std::vector<float> gates;
      for (std::int64_t i = 0; i < kInter; ++i)
        gates.push_back(static_cast<float>(
            from_bf16(fused[static_cast<std::size_t>(row * 2 * kInter + i / kGroup * 2 * kGroup + i % kGroup)])));
      for (std::int64_t block = 0; block < kInter / 16; ++block) {
        float values[16];
        std::copy_n(gates.begin() + block * 16, 16, values);
        std::uint8_t want[8];
        const std::uint8_t want_sf =
            bridge ? nvfp4_block_bridge(values, 0.003f, want) : nvfp4_block_rne(values, 0.003f, want);
        EXPECT_EQ(got_sf[static_cast<std::size_t>(row * kInter / 16 + block)], want_sf);
        for (std::int64_t i = 0; i < 8; ++i)
          ASSERT_EQ(got_codes[static_cast<std::size_t>(row * kInter / 2 + block * 8 + i)], want[i])
              << "row " << row << ", block " << block;
      }
    }
  }
}

}  // namespace
}  // namespace megamoe::sm90::test
