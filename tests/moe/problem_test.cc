#include <gtest/gtest.h>

#include "megamoe/error.h"
#include "megamoe/moe.h"

namespace megamoe {
namespace {

TEST(problem, text_comes_back) {
  for (const char* text : {
           "h=256 i=128 e=16 k=4 w=nvfp4 a=bf16",
           "h=2880 i=2880 e=32 k=4 w=nvfp4 a=int8 act=oai limit=7 bias",
           "h=4096 i=2048 e=256 k=6 w=nvfp4 a=nvfp4 scale=static limit=10 topk=before shared=2048:bf16",
           "h=2048 i=512 e=512 k=10 w=bf16 a=bf16 shared=512:nvfp4:gated",
           "h=16 i=16 e=1 k=1 w=nvfp4 a=bf16 act=oai:1.5 limit=0.100000001",
       })
    EXPECT_EQ(parse_problem(text).to_string(), text);
}

TEST(problem, every_field_is_in_its_text) {
  Problem problem = parse_problem(
      "h=32 i=48 e=3 k=2 w=bf16 a=nvfp4 scale=static act=oai:2 limit=3 bias topk=before shared=64:nvfp4:gated");
  EXPECT_EQ(parse_problem(problem.to_string()), problem);
  EXPECT_EQ(problem.shared.inter, 64);
  EXPECT_TRUE(problem.shared.gated);
  EXPECT_EQ(problem.activation.alpha, 2.0f);
}

std::string refusal_of(const char* text) {
  try {
    validate(parse_problem(text));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    return error.what();
  }
  return "taken";
}

TEST(problem, refuses_with_a_sentence) {
  EXPECT_EQ(refusal_of("h=2000 i=128 e=4 k=2"), "taken");
  EXPECT_EQ(refusal_of("h=2008 i=128 e=4 k=2"), "hidden: asked 2008, accepted: multiples of 16 from 16 to 1048576");
  EXPECT_EQ(refusal_of("h=0 i=128 e=4 k=2"), "hidden: asked 0, accepted: multiples of 16 from 16 to 1048576");
  EXPECT_EQ(refusal_of("h=256 i=-16 e=4 k=2"), "inter: asked -16, accepted: multiples of 16 from 16 to 1048576");
  EXPECT_EQ(refusal_of("h=256 i=128 e=4 k=5"), "top_k: asked 5, accepted: 1 to experts = 4");
  EXPECT_EQ(refusal_of("h=256 i=128 e=0 k=1"), "experts: asked 0, accepted: 1 to 65536");
  EXPECT_EQ(refusal_of("h=256 i=128 e=4 k=2 limit=-1"),
            "activation.limit: asked -1, accepted: above 0, infinity for none");
  EXPECT_EQ(refusal_of("h=256 i=128 e=4 k=2 shared=24:bf16"),
            "shared.inter: asked 24, accepted: multiples of 16 from 16 to 1048576");
  EXPECT_EQ(refusal_of("h=256x"), "problem: 'h=256x' needs a number, found '256x'");
  EXPECT_TRUE(refusal_of("h=256 q=3").starts_with("problem: unknown word 'q=3', accepted: h=N"));
  EXPECT_TRUE(refusal_of("w=fp8").starts_with("problem: unknown word 'w=fp8'"));
}

}  // namespace
}  // namespace megamoe
