// The first MoE layer of a checkpoint, on one token. README.md shows this file; a test compiles and runs it.
#include <megamoe/formats/bf16.h>
#include <megamoe/moe_block.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  megamoe::MoeLayer layer = megamoe::Checkpoint::open(argv[1]).layer(0);  // Qwen3-MoE, Mixtral, DeepSeek, GLM, ...
  layer.problem.activations = megamoe::ActivationFormat::kInt8;           // or kBf16, kNvfp4
  megamoe::MoeBlock block(layer, {.max_tokens = 16});                     // packs the weights for this machine
  std::vector<std::uint16_t> x(layer.problem.hidden, megamoe::bf16_from_float(0.5f));  // [tokens, hidden] bf16
  std::vector<std::uint16_t> y(x.size());
  block.forward(x, y);  // router, experts, shared experts
  std::cout << block.plan().describe() << "\ny[0] = " << megamoe::bf16_to_float(y[0]) << "\n";
}
