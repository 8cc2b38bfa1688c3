// One PTX instruction a function. Section numbers are those of the PTX ISA 9.0.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace megamoe::sm90::ptx {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// %laneid (10.3), asked for again wherever it stands.
__device__ __forceinline__ int lane() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

// The same number, of which the compiler knows no more where it comes from: it stays in its register instead of being
// made again wherever it is used. For an address in shared memory that is worth a read of a special register each.
__device__ __forceinline__ std::uint32_t opaque(std::uint32_t number) {
  asm volatile("" : "+r"(number));
  return number;
}

// Loads from shared memory by address; in order with barriers' waits.
__device__ __forceinline__ uint4 load_shared_16(std::uint32_t address) {
  uint4 out;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "r"(address));
  return out;
}
__device__ __forceinline__ uint2 load_shared_8(std::uint32_t address) {
  uint2 out;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(out.x), "=r"(out.y) : "r"(address));
  return out;
}

// ---- mbarrier (9.7.13.15) -------------------------------------------------------------------------------------------

__device__ __forceinline__ void mbarrier_init(std::uint64_t* barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// Makes initialised barriers known to the copy engine.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(std::uint64_t* barrier) { mbarrier_arrive(shared_address(barrier)); }

__device__ __forceinline__ void mbarrier_arrive_expect(std::uint64_t* barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void mbarrier_wait(std::uint64_t* barrier, std::uint32_t parity) {
  mbarrier_wait(shared_address(barrier), parity);
}

// ---- clusters of blocks
// ----------------------------------------------------------------------------------------------

// %cluster_ctarank (10.17).
__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// mapa (9.7.9.24): where the block `rank` of the cluster has what lies at `address` here.
__device__ __forceinline__ std::uint32_t in_block(std::uint32_t address, int rank) {
  std::uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}

// barrier.cluster (9.7.13.3): all threads of the cluster; whole warps. Orders what was done in shared memory before.
__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

// In any block of the cluster. Not .release.cluster: that is MEMBAR.ALL.GPU, and what it orders here are copies of the
// async proxy, for which the barrier itself is enough.
__device__ __forceinline__ void mbarrier_arrive_in_cluster(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// st.async (9.7.9.12): 16 bytes into the shared memory of a block of the cluster; completes on a barrier there.
__device__ __forceinline__ void store_async(std::uint32_t to, int4 value, std::uint32_t barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(barrier)
      : "memory");
}

// ---- counters in global memory (9.7.9.8, 9.7.13.14), proxies (9.7.13.4) ---------------------------------------------

__device__ __forceinline__ std::int32_t load_acquire(const std::int32_t* from) {
  std::int32_t value;
  asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
__device__ __forceinline__ void add_relaxed(std::int32_t* to, std::int32_t more) {
  asm volatile("red.relaxed.gpu.global.add.s32 [%0], %1;" ::"l"(to), "r"(more) : "memory");
}
__device__ __forceinline__ void add_release(std::int32_t* to, std::int32_t more) {
  asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(to), "r"(more) : "memory");
}
// Between ordinary accesses to global memory and bulk copies of the same bytes.
__device__ __forceinline__ void fence_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// ---- stores under a predicate (9.7.9.11), where a branch would cost more --------------------------------------------

template <class T>
__device__ __forceinline__ void store_if(bool wanted, T* to, std::uint32_t bits) {
  asm volatile("{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %0, 0;\n@wanted st.global.b32 [%1], %2;\n}" ::"r"(
                   static_cast<int>(wanted)),
               "l"(to), "r"(bits)
               : "memory");
}
__device__ __forceinline__ void store_if(bool wanted, float* to, float value) {
  store_if(wanted, to, __float_as_uint(value));
}
__device__ __forceinline__ void store_if(bool wanted, float* to, float first, float second) {
  asm volatile("{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %0, 0;\n@wanted st.global.v2.f32 [%1], {%2, %3};\n}" ::"r"(
                   static_cast<int>(wanted)),
               "l"(to), "f"(first), "f"(second)
               : "memory");
}

// ---- named barriers (9.7.13.1) --------------------------------------------------------------------------------------

// `Threads` threads of the block, whole warps, wait for each other. Number 0 is __syncthreads.
template <int Threads>
__device__ __forceinline__ void meet_threads(int barrier) {
  asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(barrier), "n"(Threads) : "memory");
}

// elect.sync (9.7.13.14): true in one lane of the warp, of whose lanes all are there.
__device__ __forceinline__ bool elect_one() {
  std::uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xFFFFFFFF;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

// ---- copies into shared memory --------------------------------------------------------------------------------------

__device__ __forceinline__ std::uint64_t evict_first_policy() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ std::uint64_t evict_last_policy() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// cp.async.bulk (9.7.9.25.4.1): addresses and bytes are multiples of 16; completes on the barrier.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, std::uint32_t bytes, std::uint64_t* barrier,
                                          std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}
// Without a cache policy.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, std::uint32_t bytes,
                                          std::uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

// Into all blocks of the cluster that `blocks` has bits of, at the same place; completes on each one's barrier.
__device__ __forceinline__ void bulk_copy_to_all(void* shared, const void* global, std::uint32_t bytes,
                                                 std::uint64_t* barrier, std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier)), "h"(blocks)
      : "memory");
}

// prefetch.global.L2 (9.7.9.15): a line into the second-level cache.
__device__ __forceinline__ void prefetch_line(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

// ---- matrices of 8 x 8 b16 ------------------------------------------------------------------------------------------

// ldmatrix.x4 (9.7.14.5.15): lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(std::uint32_t (&matrix)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(address)
               : "memory");
}

// movmatrix (9.7.14.5.17).
__device__ __forceinline__ std::uint32_t transpose(std::uint32_t matrix) {
  std::uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(matrix));
  return out;
}

// mma.m16n8k16 (9.7.14.5.14): d += a * b.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two bf16 products, rounded to nearest even, subnormals kept (9.7.4.3).
__device__ __forceinline__ std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t out;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}

__device__ __forceinline__ std::uint32_t repeat_low(std::uint32_t pair) {
  std::uint32_t out;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\nmov.b32 %0, {low, low};\n}" : "=r"(out) : "r"(pair));
  return out;
}

__device__ __forceinline__ std::uint32_t repeat_high(std::uint32_t pair) {
  std::uint32_t out;
  asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\nmov.b32 %0, {high, high};\n}" : "=r"(out) : "r"(pair));
  return out;
}

// Two floats to bf16, nearest even, `low` in the low half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

// fma.rn.f32 (9.7.3.6) with a bias of 0. Volatile: where it stands behind a choice of sums the compiler would choose
// first, a move each, and multiply behind.
__device__ __forceinline__ float scaled(float sum, float scale) {
  float out;
  asm volatile("fma.rn.f32 %0, %1, %2, 0f00000000;" : "=f"(out) : "f"(sum), "f"(scale));
  return out;
}

// ex2.approx.ftz.f32 (9.7.3.21): 2^x within 2^-22 of it; 0 where the result would be subnormal.
__device__ __forceinline__ float exp2(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// rcp.approx.ftz.f32 (9.7.3.13): 1 / x within a unit of the last place.
__device__ __forceinline__ float reciprocal(float x) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// min.NaN and max.NaN (9.7.3.11, 9.7.3.12): NaN if either is.
__device__ __forceinline__ float min_or_nan(float a, float b) {
  float min;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(min) : "f"(a), "f"(b));
  return min;
}
__device__ __forceinline__ float max_or_nan(float a, float b) {
  float max;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
  return max;
}

// ---- roles ----------------------------------------------------------------------------------------------------------

// setmaxnreg (9.7.20.5): whole warpgroups; who takes waits until others have given enough.
template <int Registers>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

// ---- wgmma (9.7.15) -------------------------------------------------------------------------------------------------

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Descriptor of a K-major matrix of 8-row groups, 128 bytes (64 bf16) a row, in the 128-byte swizzle (9.7.15.5.1.2.2).
// `address` is that of a group's row 0, plus 32 bytes for every 16 k.
__device__ __forceinline__ std::uint64_t swizzled_rows(std::uint32_t address) {
  constexpr std::uint64_t kGroupBytes = 1024;
  constexpr std::uint64_t kSwizzle128 = 1;
  return std::uint64_t{(address & 0x3FFFFu) >> 4} | (kGroupBytes >> 4) << 32 | kSwizzle128 << 62;
}

}  // namespace megamoe::sm90::ptx
