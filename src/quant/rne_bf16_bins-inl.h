// Codes of BF16 numbers in 16-bit integers, AVX-512 with VBMI2: a look-up and an addition for 32 numbers. Part of
// rne_bf16_vectors.cc.
//
// A code is the number of its block's seven thresholds that are not above |x|, and BF16 magnitudes order like their
// bits. Where the thresholds are depends on the block's step alone, so on its scale code under one global scale. Let
// v = bits(|x|) - base, 0 where that is negative, with base = bits(1.5 step) - 384. 128 are a binade, and wherever in
// its binade the step is, the bins of 64 that begin at base have at most one threshold each:
//
//   bin          0    1    2    3    4    5     6     7    8    9    10...
//   threshold      .25     -      .75     1.25  1.75  2.5  3.5  5    -         times the step
//
// So code = (v + addend[bin]) >> 6, and 16 addends of 16 bits are all that a scale code has to say. What exceeds the
// largest code by far (nvfp4_has_fast_form) never comes here.
//
// 11 operations for 32 numbers, and 15 more with their errors. Other targets' f32 quotients take 27 without errors;
// compares with the seven thresholds would take 14 instead of the 6 up to the code, three by binary search 9. Zen 4,
// from the L2 cache, with the scales: 25 GB/s of BF16 a thread, 13 with errors.

#if defined(MEGAMOE_QUANT_RNE_BF16_BINS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_QUANT_RNE_BF16_BINS_INL_H_
#undef MEGAMOE_QUANT_RNE_BF16_BINS_INL_H_
#else
#define MEGAMOE_QUANT_RNE_BF16_BINS_INL_H_
#endif

#include <array>
#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "megamoe/formats/e4m3.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe {
namespace HWY_NAMESPACE {

constexpr int kScaleCodes = 128;
constexpr int kBins = 16;

// All that a global scale decides, by scale code.
struct Bins {
  // addend << 6. A vector has two blocks: bit 15 marks the second one, for the look-up of errors.
  alignas(64) std::uint16_t addend[2][kScaleCodes][kBins];
  alignas(64) float value[kScaleCodes][8];  // of each magnitude; for errors only
};

constexpr std::array<float, kScaleCodes> scale_values() {
  std::array<float, kScaleCodes> values{};
  for (int code = 0; code < kScaleCodes; ++code)
    values[static_cast<std::size_t>(code)] = code == kE4m3Nan ? 0.0f : e4m3_to_float(static_cast<std::uint8_t>(code));
  return values;
}
alignas(64) inline constexpr std::array<float, kScaleCodes> kScaleValues = scale_values();

// Bits of BF16, in both halves of each lane.
HWY_INLINE __m512i base_of(__m512 step) {
  const __m512i middle = _mm512_castps_si512(_mm512_mul_ps(step, _mm512_set1_ps(1.5f)));
  const __m512i bits = _mm512_srli_epi32(middle, 16);
  return _mm512_sub_epi16(_mm512_mask_blend_epi16(0xAAAAAAAA, bits, middle), _mm512_set1_epi16(6 * 64));
}

// Bits of the first BF16 number whose rounded f32 quotient by `step` is above `c`, or from c on where its code is even
// (kFromC): ties go to the even code. With h half a unit in the last place of c on that side, quotients up to c + h
// round to c, and so do those from c - h on, since c has few bits. Of BF16 numbers only the nearest to c * step can be
// that near, and its distance to c * step is exact.
template <bool kFromC>
HWY_INLINE __m512i threshold_of(__m512 step, float c, float h) {
  const __m512i product = _mm512_castps_si512(_mm512_mul_ps(step, _mm512_set1_ps(c)));
  const __m512i nearest = _mm512_srli_epi32(_mm512_add_epi32(product, _mm512_set1_epi32(0x8000)), 16);
  const __m512 distance =
      _mm512_fnmadd_ps(step, _mm512_set1_ps(c), _mm512_castsi512_ps(_mm512_slli_epi32(nearest, 16)));
  const __m512 half = _mm512_mul_ps(step, _mm512_set1_ps(kFromC ? -h : h));
  const __mmask16 is_below =
      kFromC ? _mm512_cmp_ps_mask(distance, half, _CMP_LT_OQ) : _mm512_cmp_ps_mask(distance, half, _CMP_LE_OQ);
  return _mm512_mask_add_epi32(nearest, is_below, nearest, _mm512_set1_epi32(1));
}

HWY_INLINE void make_bins(float global_scale, bool with_values, Bins& bins) {
  // Addend of a bin: 64 times the code behind its threshold, minus the threshold; kept within the codes of the bin
  // where the threshold may be in its neighbour, and constant where there is none.
  constexpr std::int16_t kNo = 32767;
  const __m256i code =
      _mm256_setr_epi16(64, 64, 0, 128, 128, 192, 256, 320 - 128, 384 - 128, 448 - 256, 0, 0, 0, 0, 0, 0);
  const __m256i least = _mm256_setr_epi16(0, -kNo, 64 - 128, 64 - 192, -kNo, -kNo, -kNo, -kNo, -kNo, -kNo, 448 - 640,
                                          448 - 704, 448 - 768, 448 - 832, 448 - 896, 448 - 960);
  const __m256i most = _mm256_setr_epi16(kNo, 0, 64 - 128, kNo, 128 - 256, kNo, kNo, kNo, kNo, kNo, 448 - 640,
                                         448 - 704, 448 - 768, 448 - 832, 448 - 896, 448 - 960);
  // Which of a step's four thresholds, two bytes each; those of the higher binades are 128 and 256 further.
  const __m256i which = _mm256_setr_epi16(0x0100, 0x0100, 0x0100, 0x0302, 0x0302, 0x0504, 0x0706, 0x0504, 0x0706,
                                          0x0504, 0x0100, 0x0100, 0x0100, 0x0100, 0x0100, 0x0100);
  const __m256i second = _mm256_set1_epi16(static_cast<std::int16_t>(0x8000));
  alignas(64) std::uint32_t low[16], high[16];
  for (int first = 0; first < kScaleCodes; first += 16) {
    const __m512 step =
        _mm512_mul_ps(_mm512_load_ps(&kScaleValues[static_cast<std::size_t>(first)]), _mm512_set1_ps(global_scale));
    const __m512i base = _mm512_srli_epi32(base_of(step), 16);
    const auto above_base = [&](__m512i threshold) HWY_ATTR { return _mm512_sub_epi32(threshold, base); };
    const __m512i quarter = above_base(threshold_of<false>(step, 0.25f, 0x1p-26f));
    const __m512i three_quarters = above_base(threshold_of<true>(step, 0.75f, 0x1p-25f));
    const __m512i five_quarters = above_base(threshold_of<false>(step, 1.25f, 0x1p-24f));
    const __m512i seven_quarters = above_base(threshold_of<true>(step, 1.75f, 0x1p-24f));
    _mm512_store_si512(low, _mm512_or_si512(quarter, _mm512_slli_epi32(three_quarters, 16)));
    _mm512_store_si512(high, _mm512_or_si512(five_quarters, _mm512_slli_epi32(seven_quarters, 16)));
    for (int i = 0; i < 16; ++i) {
      const __m256i thresholds = _mm256_set1_epi64x(static_cast<std::int64_t>(std::uint64_t{high[i]} << 32 | low[i]));
      __m256i addend = _mm256_sub_epi16(code, _mm256_shuffle_epi8(thresholds, which));
      addend = _mm256_slli_epi16(_mm256_min_epi16(_mm256_max_epi16(addend, least), most), 6);
      _mm256_store_si256(reinterpret_cast<__m256i*>(bins.addend[0][first + i]), addend);
      _mm256_store_si256(reinterpret_cast<__m256i*>(bins.addend[1][first + i]), _mm256_xor_si256(addend, second));
    }
  }
  if (!with_values) return;
  const __m256 magnitudes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
  for (int sf = 0; sf < kScaleCodes; ++sf) {
    const float step = kScaleValues[static_cast<std::size_t>(sf)] * global_scale;
    _mm256_store_ps(bins.value[sf], _mm256_mul_ps(magnitudes, _mm256_set1_ps(step)));
  }
}

// Sums of a run, and the largest error of all. Each lane has its own.
struct BinErrors {
  __m512 squares, error_squares, largest;
};

HWY_INLINE void add_error(__m512 error, BinErrors& errors) {
  errors.error_squares = _mm512_fmadd_ps(error, error, errors.error_squares);
  errors.largest = _mm512_range_ps(errors.largest, error, 0xB);  // the larger magnitude
}

// Lower half of a vector for one block, upper half for the next. A load under a mask: shuffles run on two ports, which
// have enough to do.
template <class T>
HWY_INLINE __m512i of_two(const T& lower, const T& upper) {
  static_assert(sizeof(T) == 32 || sizeof(T) == 4);
  if constexpr (sizeof(T) == 32)
    return _mm512_mask_broadcast_i64x4(
        _mm512_castsi256_si512(_mm256_load_si256(reinterpret_cast<const __m256i*>(&lower))), 0xF0,
        _mm256_load_si256(reinterpret_cast<const __m256i*>(&upper)));
  else
    return _mm512_mask_set1_epi32(_mm512_set1_epi32(static_cast<std::int32_t>(lower)), 0xFF00,
                                  static_cast<std::int32_t>(upper));
}

// Vectors that go through the steps beside each other. One after the other, the look-ups' latency would fill the
// processor's schedulers with operations that wait.
constexpr int kBeside = 4;
constexpr int kBlocksBeside = 2 * kBeside;

// A run's numbers, `blocks` of them a multiple of kBlocksBeside. base [blocks] in both halves of a word; sf [blocks].
template <bool kWithErrors>
HWY_INLINE void codes_by_bins(const std::byte* data, int blocks, const std::uint32_t* base, const std::uint8_t* sf,
                              const Bins& bins, std::uint8_t* codes, BinErrors& errors) {
  const __m512i is_second =
      _mm512_set_epi64(0x0001000100010001, 0x0001000100010001, 0x0001000100010001, 0x0001000100010001, 0, 0, 0, 0);
  const __m512i highest =
      _mm512_set_epi64(0, 0, 0, 0, 0x7F7B77736F6B6763, 0x5F5B57534F4B4743, 0x3F3B37332F2B2723, 0x1F1B17130F0B0703);
  const __m512i sign = _mm512_set1_epi16(static_cast<std::int16_t>(0x8000));
  const __m512i odd_code = _mm512_set1_epi32(static_cast<std::int32_t>(0xF0000000));
  BinErrors odd{_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int b = 0; b < blocks; b += kBlocksBeside, data += 32 * kBlocksBeside, base += kBlocksBeside,
           sf += kBlocksBeside, codes += 8 * kBlocksBeside) {
    __m512i x[kBeside], magnitude[kBeside], above[kBeside], code[kBeside];
    for (int i = 0; i < kBeside; ++i) {
      _mm_prefetch(data + 64 * i + 4096, _MM_HINT_T0);  // the processor's own requests end with the page
      x[i] = _mm512_loadu_si512(data + 64 * i);
      asm("" : "+v"(x[i]));  // or gcc loads it a second time, and most loads go over the end of a line
      magnitude[i] = _mm512_andnot_si512(sign, x[i]);
      above[i] = _mm512_slli_epi16(_mm512_subs_epu16(magnitude[i], of_two(base[2 * i], base[2 * i + 1])), 6);
    }
    for (int i = 0; i < kBeside; ++i) {
      const __m512i bin = _mm512_shldi_epi16(is_second, above[i], 4);
      const __m512i addends = of_two(bins.addend[0][sf[2 * i]], bins.addend[1][sf[2 * i + 1]]);
      code[i] = _mm512_permutexvar_epi16(bin, addends);
    }
    for (int i = 0; i < kBeside; ++i) code[i] = _mm512_add_epi16(above[i], code[i]);  // in bits 12 to 14
    if constexpr (kWithErrors) {
      __m512 even_error[kBeside], odd_error[kBeside];
      for (int i = 0; i < kBeside; ++i) {
        const __m512 values = _mm512_castsi512_ps(of_two(bins.value[sf[2 * i]], bins.value[sf[2 * i + 1]]));
        even_error[i] = _mm512_permutexvar_ps(_mm512_srli_epi32(code[i], 12), values);
        odd_error[i] = _mm512_permutexvar_ps(_mm512_srli_epi32(code[i], 28), values);
      }
      for (int i = 0; i < kBeside; ++i) {
        const __m512 even_x = _mm512_castsi512_ps(_mm512_slli_epi32(magnitude[i], 16));
        const __m512 odd_x = _mm512_castsi512_ps(_mm512_and_si512(magnitude[i], _mm512_set1_epi32(0x7FFF0000)));
        even_error[i] = _mm512_sub_ps(even_error[i], even_x);
        odd_error[i] = _mm512_sub_ps(odd_error[i], odd_x);
        errors.squares = _mm512_fmadd_ps(even_x, even_x, errors.squares);
        odd.squares = _mm512_fmadd_ps(odd_x, odd_x, odd.squares);
      }
      for (int i = 0; i < kBeside; ++i) {
        add_error(even_error[i], errors);
        add_error(odd_error[i], odd);
      }
    }
    constexpr int kSelect = 0xCA;  // bit by bit: first ? second : third
    for (int i = 0; i < kBeside; ++i) code[i] = _mm512_ternarylogic_epi32(sign, x[i], code[i], kSelect);
    for (int i = 0; i < kBeside; ++i)
      code[i] = _mm512_ternarylogic_epi32(odd_code, code[i], _mm512_slli_epi32(code[i], 12), kSelect);
    for (int i = 0; i < kBeside; i += 2)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 16 * i),
                          _mm512_castsi512_si256(_mm512_permutex2var_epi8(code[i], highest, code[i + 1])));
  }
  if constexpr (!kWithErrors) return;
  errors.squares = _mm512_add_ps(errors.squares, odd.squares);
  errors.error_squares = _mm512_add_ps(errors.error_squares, odd.error_squares);
  errors.largest = _mm512_range_ps(errors.largest, odd.largest, 0xB);
}

}  // namespace HWY_NAMESPACE
}  // namespace megamoe
HWY_AFTER_NAMESPACE();

#endif  // MEGAMOE_QUANT_RNE_BF16_BINS_INL_H_
