// Norms, activations and logits of single rows with AVX-512.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx512.h"
#include "kernels/logits.h"

namespace tidemill::avx512 {
namespace {

__mmask16 lanes_left(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1u);
}

}  // namespace

void normalize(const float* in, const float* scale, int64_t count, float epsilon, float* out) {
  constexpr int kChains = 4;  // a sum would wait for itself
  __m512 squares[kChains] = {};
  int64_t begin = 0;
  for (; begin + 16 * kChains <= count; begin += 16 * kChains) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kChains; ++c) {
      const __m512 x = _mm512_loadu_ps(in + begin + 16 * c);
      squares[c] = _mm512_fmadd_ps(x, x, squares[c]);
    }
  }
  for (; begin < count; begin += 16) {
    const __m512 x = _mm512_maskz_loadu_ps(lanes_left(count - begin), in + begin);
    squares[0] = _mm512_fmadd_ps(x, x, squares[0]);
  }
  const __m512 sum =
      _mm512_add_ps(_mm512_add_ps(squares[0], squares[1]), _mm512_add_ps(squares[2], squares[3]));
  const float mean = sum512(sum) / static_cast<float>(count);
  const __m512 factor =
      _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps(mean + epsilon)));
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes_left(count - i);
    const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, in + i), factor);
    _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, scale + i)));
  }
}

void rotate(const float* in, const float* cos, const float* sin, int64_t half, float* out) {
  for (int64_t j = 0; j < half; j += 16) {
    const __mmask16 mask = lanes_left(half - j);
    const __m512 a = _mm512_maskz_loadu_ps(mask, in + j);
    const __m512 b = _mm512_maskz_loadu_ps(mask, in + j + half);
    const __m512 c = _mm512_maskz_loadu_ps(mask, cos + j);
    const __m512 s = _mm512_maskz_loadu_ps(mask, sin + j);
    _mm512_mask_storeu_ps(out + j, mask, _mm512_sub_ps(_mm512_mul_ps(a, c), _mm512_mul_ps(b, s)));
    _mm512_mask_storeu_ps(out + j + half, mask,
                          _mm512_add_ps(_mm512_mul_ps(b, c), _mm512_mul_ps(a, s)));
  }
}

namespace {

// What a finished tile has beside its sums; loops are made for each kind.
template <bool kTwoParts, bool kBias, bool kResidual, bool kFloats>
struct Finishing {
  // Of a row of the tile, the sums of the channels from `c` on with their bias.
  static __m512 sums_at(const FinishedTile& tile, const float* sums, int64_t c, __mmask16 mask) {
    __m512 x = _mm512_loadu_ps(sums + c);
    if constexpr (kTwoParts) x = _mm512_add_ps(x, _mm512_loadu_ps(sums + kRowSums + c));
    if constexpr (kBias) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, tile.bias + c));
    return x;
  }

  static void store(unsigned char* out, int64_t c, __mmask16 mask, __m512 x) {
    if constexpr (kFloats) {
      _mm512_mask_storeu_ps(reinterpret_cast<float*>(out) + c, mask, x);
    } else {
      _mm256_mask_storeu_epi16(reinterpret_cast<uint16_t*>(out) + c, mask, to_bf16_512(x));
    }
  }

  static void plain_at(const FinishedTile& tile, const float* sums, const float* residual,
                       unsigned char* out, int64_t c, __mmask16 mask) {
    __m512 x = sums_at(tile, sums, c, mask);
    if constexpr (kResidual) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, residual + c));
    store(out, c, mask, x);
  }

  static void silu_at(const FinishedTile& tile, const float* sums, unsigned char* out, int64_t c,
                      __mmask16 mask) {
    const __m512 x = sums_at(tile, sums, 2 * c, kAll);
    const __m512 up = sums_at(tile, sums, 2 * c + 16, kAll);
    // exp(-x), not so large that a product with its reciprocal's error is not a number.
    const __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f));
    const __m512 e = power_of_two512(_mm512_min_ps(power, _mm512_set1_ps(126.0f)));
    const __m512 silu = _mm512_mul_ps(x, reciprocal512(_mm512_add_ps(_mm512_set1_ps(1.0f), e)));
    store(out, c, mask, _mm512_mul_ps(silu, up));
  }

  // at(sums, residual, out, c, mask) for each vector of each row; nearly all are whole.
  template <typename At>
  static void each_vector(const FinishedTile& given, const At& at) {
    const FinishedTile tile = given;  // stores could change what is given
    const float* sums = tile.sums;
    const float* residual = tile.residual;
    unsigned char* out = tile.out;
    for (int64_t row = 0; row < tile.num_rows; ++row) {
      int64_t c = 0;
      for (; c + 16 <= tile.num_cols; c += 16) at(tile, sums, residual, out, c, kAll);
      if (c < tile.num_cols) at(tile, sums, residual, out, c, lanes_left(tile.num_cols - c));
      sums += kRowSums * (kTwoParts ? 2 : 1);
      if constexpr (kResidual) residual += tile.residual_stride;
      out += tile.out_stride;
    }
  }

  static void plain(const FinishedTile& given) {
    each_vector(given, [](const FinishedTile& tile, const float* sums, const float* residual,
                          unsigned char* out, int64_t c,
                          __mmask16 mask) { plain_at(tile, sums, residual, out, c, mask); });
  }

  static void silu(const FinishedTile& given) {
    each_vector(given,
                [](const FinishedTile& tile, const float* sums, const float*, unsigned char* out,
                   int64_t c, __mmask16 mask) { silu_at(tile, sums, out, c, mask); });
  }

 private:
  static constexpr __mmask16 kAll = 0xffff;
};

// work(Finishing<...>{}) with what the tile has.
template <bool... kKnown, typename Work>
void with_kind(const FinishedTile& tile, const Work& work) {
  constexpr int kNumKnown = sizeof...(kKnown);
  if constexpr (kNumKnown == 4) {
    work(Finishing<kKnown...>{});
  } else {
    const bool next = kNumKnown == 0   ? tile.parts == 2
                      : kNumKnown == 1 ? tile.bias != nullptr
                      : kNumKnown == 2 ? tile.residual != nullptr
                                       : tile.type == DType::kF32;
    next ? with_kind<kKnown..., true>(tile, work) : with_kind<kKnown..., false>(tile, work);
  }
}

}  // namespace

void finish(const FinishedTile& tile) {
  with_kind(tile, [&](auto kind) { kind.plain(tile); });
}

void finish_silu(const FinishedTile& tile) {
  with_kind(tile, [&](auto kind) { kind.silu(tile); });
}

void to_bf16(const float* in, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes_left(count - i);
    _mm256_mask_storeu_epi16(out + i, mask, to_bf16_512(_mm512_maskz_loadu_ps(mask, in + i)));
  }
}

namespace {

// The first of values begin .. end - 1 that equals `wanted`, which there is.
int64_t first_equal(const float* values, int64_t begin, int64_t end, float wanted) {
  for (int64_t i = begin; i < end; i += 16) {
    const __mmask16 mask = lanes_left(end - i);
    const __mmask16 hit = _mm512_mask_cmp_ps_mask(mask, _mm512_maskz_loadu_ps(mask, values + i),
                                                  _mm512_set1_ps(wanted), _CMP_EQ_OQ);
    if (hit != 0) return i + __builtin_ctz(hit);
  }
  return begin;
}

}  // namespace

void summarize(const Logits& logits, LogitSummary* out) {
  const int64_t num_chunks = (logits.count + kLogitChunk - 1) / kLogitChunk;
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  __m512 max = lowest;
  __mmask16 strange = 0;
  for (int64_t i = 0; i < num_chunks; i += 16) {
    const __m512 x =
        _mm512_mask_loadu_ps(lowest, lanes_left(num_chunks - i), logits.chunk_maxima + i);
    strange = static_cast<__mmask16>(strange | _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q));
    max = _mm512_max_ps(max, x);
  }
  out->max = max512(max);
  out->finite = strange == 0;
  out->argmax = 0;
  if (!out->finite) return;
  const int64_t chunk = first_equal(logits.chunk_maxima, 0, num_chunks, out->max);
  const int64_t id = first_equal(logits.values, chunk * kLogitChunk, logits.count, out->max);
  out->argmax = static_cast<int32_t>(id);
}

float sum_exp(const float* logits, int64_t count, float max, float factor) {
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 x = _mm512_mask_loadu_ps(lowest, lanes_left(count - i), logits + i);
    const __m512 distance = _mm512_sub_ps(x, _mm512_set1_ps(max));
    sum = _mm512_add_ps(sum, exp512(_mm512_mul_ps(distance, _mm512_set1_ps(factor))));
  }
  return sum512(sum);
}

int64_t collect(const Logits& logits, float threshold, int32_t* ids, int64_t capacity) {
  const int64_t num_chunks = (logits.count + kLogitChunk - 1) / kLogitChunk;
  const __m512 least = _mm512_set1_ps(threshold);
  const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t found = 0;
  const auto collect_chunk = [&](int64_t begin) {
    // Without a branch for each of them: a search for a threshold counts tens of thousands.
    for (int64_t i = begin; i < begin + kLogitChunk && i < logits.count; i += 16) {
      const __mmask16 mask = lanes_left(logits.count - i);
      const __m512 x = _mm512_maskz_loadu_ps(mask, logits.values + i);
      const __mmask16 hits = _mm512_mask_cmp_ps_mask(mask, x, least, _CMP_GE_OQ);
      if (found < capacity && hits != 0) {
        const __m512i at = _mm512_add_epi32(places, _mm512_set1_epi32(static_cast<int>(i)));
        _mm512_mask_storeu_epi32(ids + found, lanes_left(capacity - found),
                                 _mm512_maskz_compress_epi32(hits, at));
      }
      found += __builtin_popcount(hits);
    }
  };
  for (int64_t chunk = 0; chunk < num_chunks; chunk += 16) {
    const __mmask16 mask = lanes_left(num_chunks - chunk);
    const __m512 maxima = _mm512_maskz_loadu_ps(mask, logits.chunk_maxima + chunk);
    unsigned left = _mm512_mask_cmp_ps_mask(mask, maxima, least, _CMP_GE_OQ);
    for (; left != 0; left &= left - 1) {
      collect_chunk((chunk + __builtin_ctz(left)) * kLogitChunk);
    }
  }
  return found;
}

void chunk_maxima(const float* logits, int64_t count, float* maxima) {
  // Quiet NaN, +infinity, -infinity, signalling NaN.
  constexpr int kStrange = 0x99;
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  for (int64_t i = 0; i < count; i += kLogitChunk) {
    __m512 max = lowest;
    __mmask16 strange = 0;
    TIDEMILL_UNROLL
    for (int64_t j = i; j < i + kLogitChunk; j += 16) {
      const __mmask16 mask = j < count ? lanes_left(count - j) : static_cast<__mmask16>(0);
      const __m512 x = _mm512_mask_loadu_ps(lowest, mask, logits + j);
      strange = static_cast<__mmask16>(strange | _mm512_mask_fpclass_ps_mask(mask, x, kStrange));
      max = _mm512_max_ps(max, x);
    }
    maxima[i / kLogitChunk] = strange == 0 ? max512(max) : __builtin_nanf("");
  }
}

// Eight pages in flight: one stream alone leaves part of the bandwidth unused.
uint64_t read_memory(const void* data, int64_t bytes) {
  constexpr int64_t kPage = 4096;
  const auto* base = static_cast<const unsigned char*>(data);
  __m512i sum = _mm512_setzero_si512();
  for (int64_t begin = 0; begin < bytes; begin += 8 * kPage) {
    for (int64_t line = 0; line < kPage; line += 64) {
      TIDEMILL_UNROLL
      for (int64_t page = 0; page < 8; ++page) {
        sum = _mm512_add_epi64(sum, _mm512_loadu_si512(base + begin + page * kPage + line));
      }
    }
  }
  alignas(64) uint64_t parts[8];
  _mm512_store_si512(parts, sum);
  uint64_t total = 0;
  for (const uint64_t part : parts) total += part;
  return total;
}

}  // namespace tidemill::avx512
