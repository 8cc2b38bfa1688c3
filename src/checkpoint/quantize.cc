// quantize: the routed experts of a BF16, F16 or F32 model to NVFP4, expert by expert.
#include <algorithm>
#include <unordered_map>

#include "base/threads.h"
#include "checkpoint/layer.h"
#include "checkpoint/quantize_matrix.h"
#include "checkpoint/rewrite.h"
#include "megamoe/formats/nvfp4.h"

namespace megamoe {
namespace {

using Which = std::size_t;  // 0 gate, 1 up, 2 down

// The matrices of one expert that are in one shard: what one thread works on.
struct Unit {
  std::size_t layer = 0;  // position in layers
  std::size_t expert = 0;
  std::vector<Which> matrices;
  std::array<ErrorStats, 3> error;
};

// Memory of one thread.
struct UnitScratch {
  MatrixScratch matrix;
  std::array<ScannedMatrix, 3> scanned;
};

class Quantizer final : public Transform {
 public:
  Quantizer(const Model& model, const Dialect& dialect, QuantRecipe recipe)
      : model_(model), dialect_(dialect), recipe_(recipe), units_(model.files.shards().size()) {
    for (const std::int64_t index : model.architecture.moe_layers) add_layer(index);
  }

  std::int64_t matrices() const noexcept { return static_cast<std::int64_t>(of_weight_.size()); }
  std::uint64_t input_bytes() const noexcept { return input_bytes_; }
  std::uint64_t output_bytes() const noexcept { return output_bytes_; }

  // Errors over all experts, in a fixed order whatever the threads did.
  std::vector<RewriteReport::Layer> errors() const {
    std::vector<std::array<ErrorStats, 3>> sums(layers_.size());
    for (const std::vector<Unit>& shard : units_)
      for (const Unit& unit : shard)
        for (Which which = 0; which < 3; ++which) sums[unit.layer][which].merge(unit.error[which]);
    std::vector<RewriteReport::Layer> result;
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      RewriteReport::Layer& to = result.emplace_back();
      to.index = layers_[layer].index;
      for (Which which = 0; which < 3; ++which) {
        const ErrorStats& error = sums[layer][which];
        to.error[which] = {error.sqnr_db(), error.relative_error(), error.max_abs()};
      }
    }
    return result;
  }

  std::optional<std::vector<TensorSpec>> outputs(const Tensor& tensor) const override {
    const auto found = of_weight_.find(&tensor);
    if (found == of_weight_.end()) return std::nullopt;
    return parts_of(*found->second);
  }

  std::vector<const Tensor*> foreign_sources(std::uint32_t shard) const override {
    std::vector<const Tensor*> tensors;
    for (const Unit& unit : units_[shard])
      for (const Which which : {Which{0}, Which{1}}) {
        const Tensor* partner = matrix_of(unit, which).weight;
        const bool is_pair_here = std::ranges::find(unit.matrices, 1 - which) != unit.matrices.end();
        if (is_pair_here && partner->shard != shard) tensors.push_back(partner);
      }
    return tensors;
  }

  void write(std::uint32_t shard, SafetensorsWriter& writer, SourceDigests& sources, Progress& progress) override {
    const Threads threads;
    std::vector<UnitScratch> scratch(static_cast<std::size_t>(threads.count()));
    threads.each(static_cast<std::int64_t>(units_[shard].size()), [&](std::int64_t step, int worker) {
      Unit& unit = units_[shard][static_cast<std::size_t>(step)];
      write_unit(unit, scratch[static_cast<std::size_t>(worker)], writer, sources, progress);
    });
  }

  void look_at_finished(std::uint32_t shard, const SafetensorsFile& file) override {
    UnitScratch scratch;
    for (Unit& unit : units_[shard])
      for (const Which which : unit.matrices) {
        const StoredMatrix& matrix = matrix_of(unit, which);
        const auto bytes = [&](std::string_view suffix) {
          const ConstTensorView view = file.tensor(matrix.module + std::string(suffix));
          return std::span(static_cast<const std::uint8_t*>(view.data), static_cast<std::size_t>(view.bytes()));
        };
        float amax = scan(unit, which, nullptr, scratch);
        if (which < 2) amax = std::max(amax, scan(unit, 1 - which, nullptr, scratch));
        measure_matrix(matrix, bytes(dialect_.codes), bytes(dialect_.sf), global_scale(amax), scratch.matrix,
                       unit.error[which]);
      }
  }

  const Dialect& dialect() const override { return dialect_; }
  bool has_input_scales() const override { return false; }
  bool quantised(const Tensor& weight) const override { return of_weight_.contains(&weight); }
  std::string options() const override {
    return "quantize dialect=" + std::string(dialect_.name) + " recipe=" + std::string(quant_recipe_name(recipe_));
  }

 private:
  std::vector<TensorSpec> parts_of(const StoredMatrix& matrix) const {
    const std::int64_t rows = matrix.view.rows, cols = matrix.view.cols;
    return {{matrix.module + std::string(dialect_.codes), DType::kU8, {rows, cols / 2}},
            {matrix.module + std::string(dialect_.sf), DType::kF8E4M3, {rows, cols / kNvfp4Block}},
            scalar_spec(dialect_, matrix.module + std::string(dialect_.global))};
  }

  void add_layer(std::int64_t index) {
    Pass pass;
    StoredLayer layer = read_layer(model_, index, pass);
    pass.problems.throw_if_any();
    // Only the experts are of use here.
    layer.router = {};
    layer.shared.reset();
    layers_.push_back(std::move(layer));

    const std::size_t at = layers_.size() - 1;
    const std::vector<StoredExpert>& experts = layers_[at].experts;
    for (std::size_t expert = 0; expert < experts.size(); ++expert)
      for (Which which = 0; which < 3; ++which) {
        const StoredMatrix& matrix = *experts[expert].matrices[which];
        std::vector<Unit>& units = units_[matrix.weight->shard];
        if (units.empty() || units.back().layer != at || units.back().expert != expert)
          units.push_back({.layer = at, .expert = expert, .matrices = {}, .error = {}});
        units.back().matrices.push_back(which);
        of_weight_.emplace(matrix.weight, &matrix);
        input_bytes_ += static_cast<std::uint64_t>(matrix.weight->view.bytes());
        for (const TensorSpec& spec : parts_of(matrix))
          output_bytes_ += checked_tensor_bytes(spec.shape, spec.dtype, spec.name);
      }
  }

  const StoredMatrix& matrix_of(const Unit& unit, Which which) const {
    return *layers_[unit.layer].experts[unit.expert].matrices[which];
  }

  // Returns the matrix's amax.
  float scan(const Unit& unit, Which which, SourceDigests* sources, UnitScratch& scratch) const {
    const StoredMatrix& matrix = matrix_of(unit, which);
    ScannedMatrix& scanned = scratch.scanned[which];
    scan_matrix(model_, matrix, recipe_, scratch.matrix, scanned);
    if (sources != nullptr) sources->set(*matrix.weight, scanned.digest);
    return scanned.amax;
  }

  float global_scale(float amax) const {
    const float scale = nvfp4_global_scale(recipe_, amax);
    // bridge is there for the bytes of older files: where the multiplier itself is stored, not one bit of it moves.
    const bool keeps_bits = recipe_ == QuantRecipe::kBridge && !dialect_.stores_reciprocals;
    return keeps_bits ? scale : storable_multiplier(scale);
  }

  // Gate and up share a global scale: engines that fuse the two matrices take one for both, and scales below the larger
  // amax lose nothing, since block scales are floating point.
  void write_unit(Unit& unit, UnitScratch& scratch, SafetensorsWriter& writer, SourceDigests& sources,
                  Progress& progress) {
    const auto has = [&](Which which) { return std::ranges::find(unit.matrices, which) != unit.matrices.end(); };
    if (has(0) || has(1)) {
      const float gate = scan(unit, 0, &sources, scratch), up = scan(unit, 1, &sources, scratch);
      const float scale = global_scale(std::max(gate, up));
      for (const Which which : {Which{0}, Which{1}})
        if (has(which)) write_one(unit, which, scale, scratch, writer, progress);
    }
    if (has(2)) write_one(unit, 2, global_scale(scan(unit, 2, &sources, scratch)), scratch, writer, progress);
  }

  void write_one(Unit& unit, Which which, float scale, UnitScratch& scratch, SafetensorsWriter& writer,
                 Progress& progress) {
    const StoredMatrix& matrix = matrix_of(unit, which);
    const MatrixNames names{matrix.module + std::string(dialect_.codes), matrix.module + std::string(dialect_.sf)};
    write_matrix(matrix, scratch.scanned[which], recipe_, scale, names, writer, scratch.matrix, unit.error[which]);
    forget_matrix(model_, matrix);
    const float stored = stored_scalar(dialect_, scale);
    writer.append(matrix.module + std::string(dialect_.global), std::as_bytes(std::span(&stored, 1)));
    progress.add(static_cast<std::uint64_t>(matrix.weight->view.bytes()), matrix.module);
  }

  const Model& model_;
  const Dialect& dialect_;
  const QuantRecipe recipe_;
  std::vector<StoredLayer> layers_;
  std::unordered_map<const Tensor*, const StoredMatrix*> of_weight_;
  std::vector<std::vector<Unit>> units_;  // of each shard
  std::uint64_t input_bytes_ = 0;
  std::uint64_t output_bytes_ = 0;
};

}  // namespace

RewriteReport quantize(const std::string& dir, const std::string& out, const QuantizeOptions& options) {
  const Dialect& dialect = require_quantised_dialect(options.dialect);
  QuantRecipe recipe{};
  if (!parse_quant_recipe(options.recipe, &recipe))
    throw Error(Code::kInvalidArgument, "recipe: asked ", options.recipe, ", accepted: rne, bridge, four_six, mse");

  Findings problems, notes;
  const std::shared_ptr<const Model> model = open_model(dir, problems, notes);
  if (problems.empty() && model->dialect != &plain_dialect())
    throw Error(Code::kUnsupported, dir, ": is quantised already (", model->dialect->name,
                "), accepted: a model with BF16, F16 or F32 experts");
  problems.throw_if_any();

  Quantizer quantizer(*model, dialect, recipe);
  const Architecture& a = model->architecture;
  const std::int64_t expected = static_cast<std::int64_t>(a.moe_layers.size()) * a.experts * 3;
  if (quantizer.matrices() != expected)
    throw Error(Code::kInternal, dir, ": ", quantizer.matrices(), " matrices to quantise, expected ", expected);

  RewriteReport report;
  rewrite(*model, out, options, quantizer, report);
  report.matrices = quantizer.matrices();
  report.input_expert_bytes = quantizer.input_bytes();
  report.output_expert_bytes = quantizer.output_bytes();
  report.layers = quantizer.errors();
  for (Finding& note : notes.take()) report.notes.push_back(std::move(note));
  return report;
}

}  // namespace megamoe
