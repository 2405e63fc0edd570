// Norms, activations and logits of single rows with AVX2. Counts that do not fill a register end in
// a masked one.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/host/inner.h"
#include "kernels/host/unroll.h"
#include "kernels/host/vector_avx2.h"
#include "kernels/logits.h"

namespace tidemill::avx2 {
namespace {

// Eight logits; -infinity where there are none.
__m256 logits_at(const float* logits, int64_t i, int64_t count) {
  if (count - i >= 8) return _mm256_loadu_ps(logits + i);
  const __m256i mask = first_of_eight(count - i);
  return _mm256_blendv_ps(_mm256_set1_ps(-__builtin_inff()), _mm256_maskload_ps(logits + i, mask),
                          _mm256_castsi256_ps(mask));
}

}  // namespace

void normalize(const float* in, const float* scale, int64_t count, float epsilon, float* out) {
  __m256 squares[4];
  TIDEMILL_UNROLL
  for (int j = 0; j < 4; ++j) squares[j] = _mm256_setzero_ps();
  for (int64_t i = 0; i < count; i += 32) {
    TIDEMILL_UNROLL
    for (int j = 0; j < 4; ++j) {
      const __m256 x = load_some(in + i + 8 * j, count - i - 8 * j);
      squares[j] = _mm256_fmadd_ps(x, x, squares[j]);
    }
  }
  const __m256 sum =
      _mm256_add_ps(_mm256_add_ps(squares[0], squares[1]), _mm256_add_ps(squares[2], squares[3]));
  const float mean = sum256(sum) / static_cast<float>(count);
  const __m256 factor =
      _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_sqrt_ps(_mm256_set1_ps(mean + epsilon)));
  for (int64_t i = 0; i < count; i += 8) {
    const int64_t left = count - i;
    const __m256 x = _mm256_mul_ps(load_some(in + i, left), factor);
    store_some(_mm256_mul_ps(x, load_some(scale + i, left)), left, out + i);
  }
}

void rotate(const float* in, const float* cos, const float* sin, int64_t half, float* out) {
  for (int64_t j = 0; j < half; j += 8) {
    const int64_t left = half - j;
    const __m256 a = load_some(in + j, left);
    const __m256 b = load_some(in + j + half, left);
    const __m256 c = load_some(cos + j, left);
    const __m256 s = load_some(sin + j, left);
    store_some(_mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)), left, out + j);
    store_some(_mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)), left, out + j + half);
  }
}

void to_bf16(const float* in, int64_t count, uint16_t* out) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), to_bf16_256(_mm256_loadu_ps(in + i)));
  }
  if (i == count) return;
  alignas(16) uint16_t last[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(last), to_bf16_256(load_some(in + i, count - i)));
  for (int64_t j = 0; i + j < count; ++j) out[i + j] = last[j];
}

namespace {

// Of a row of the tile, the sums of the channels from `c` on with their bias, of which there are
// `count`.
__m256 sums_at(const FinishedTile& tile, int64_t row, int64_t c, int64_t count) {
  const float* sums = tile.sums + row * tile.parts * kRowSums + c;
  __m256 x = _mm256_loadu_ps(sums);
  if (tile.parts == 2) x = _mm256_add_ps(x, _mm256_loadu_ps(sums + kRowSums));
  if (tile.bias != nullptr) x = _mm256_add_ps(x, load_some(tile.bias + c, count));
  return x;
}

void store(const FinishedTile& tile, int64_t row, int64_t c, __m256 x) {
  const int64_t count = tile.num_cols - c;
  unsigned char* out = tile.out + row * tile.out_stride;
  if (tile.type == DType::kF32) {
    store_some(x, count, reinterpret_cast<float*>(out) + c);
  } else if (count >= 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(reinterpret_cast<uint16_t*>(out) + c),
                     to_bf16_256(x));
  } else {
    alignas(32) float last[8];
    _mm256_store_ps(last, x);
    to_bf16(last, count, reinterpret_cast<uint16_t*>(out) + c);
  }
}

}  // namespace

void finish(const FinishedTile& given) {
  const FinishedTile tile = given;  // stores could change what is given
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    for (int64_t c = 0; c < tile.num_cols; c += 8) {
      const int64_t left = tile.num_cols - c;
      __m256 x = sums_at(tile, row, c, left);
      if (tile.residual != nullptr) {
        const float* residual = tile.residual + row * tile.residual_stride + c;
        x = _mm256_add_ps(x, load_some(residual, left));
      }
      store(tile, row, c, x);
    }
  }
}

void finish_silu(const FinishedTile& given) {
  const FinishedTile tile = given;
  constexpr int64_t kWhole = 8;
  for (int64_t row = 0; row < tile.num_rows; ++row) {
    for (int64_t c = 0; c < tile.num_cols; c += 8) {
      const int64_t gate = c / 16 * 32 + c % 16;
      const __m256 x = sums_at(tile, row, gate, kWhole);
      const __m256 up = sums_at(tile, row, gate + 16, kWhole);
      const __m256 e = exp256(_mm256_sub_ps(_mm256_setzero_ps(), x));
      const __m256 silu = _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
      store(tile, row, c, _mm256_mul_ps(silu, up));
    }
  }
}

namespace {

// The first of values begin .. end - 1 that equals `wanted`, which there is.
int64_t first_equal(const float* values, int64_t begin, int64_t end, float wanted) {
  for (int64_t i = begin; i < end; i += 8) {
    const __m256 equal =
        _mm256_cmp_ps(logits_at(values, i, end), _mm256_set1_ps(wanted), _CMP_EQ_OQ);
    const int hit = _mm256_movemask_ps(equal);
    if (hit != 0) return i + __builtin_ctz(static_cast<unsigned>(hit));
  }
  return begin;
}

}  // namespace

void summarize(const Logits& logits, LogitSummary* out) {
  const int64_t num_chunks = (logits.count + kLogitChunk - 1) / kLogitChunk;
  __m256 max = _mm256_set1_ps(-__builtin_inff());
  __m256 strange = _mm256_setzero_ps();
  for (int64_t i = 0; i < num_chunks; i += 8) {
    const __m256 x = logits_at(logits.chunk_maxima, i, num_chunks);
    strange = _mm256_or_ps(strange, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    max = _mm256_max_ps(max, x);
  }
  out->max = max256(max);
  out->finite = _mm256_movemask_ps(strange) == 0;
  out->argmax = 0;
  if (!out->finite) return;
  const int64_t chunk = first_equal(logits.chunk_maxima, 0, num_chunks, out->max);
  const int64_t id = first_equal(logits.values, chunk * kLogitChunk, logits.count, out->max);
  out->argmax = static_cast<int32_t>(id);
}

float sum_exp(const float* logits, int64_t count, float max, float factor) {
  __m256 sum = _mm256_setzero_ps();
  for (int64_t i = 0; i < count; i += 8) {
    const __m256 distance = _mm256_sub_ps(logits_at(logits, i, count), _mm256_set1_ps(max));
    sum = _mm256_add_ps(sum, exp256(_mm256_mul_ps(distance, _mm256_set1_ps(factor))));
  }
  return sum256(sum);
}

int64_t collect(const Logits& logits, float threshold, int32_t* ids, int64_t capacity) {
  int64_t found = 0;
  for (int64_t i = 0; i < logits.count; i += kLogitChunk) {
    if (!(logits.chunk_maxima[i / kLogitChunk] >= threshold)) continue;
    for (int64_t j = i; j < i + kLogitChunk && j < logits.count; j += 8) {
      // Behind the end nothing is as great.
      const __m256 x = logits_at(logits.values, j, logits.count);
      const __m256 above = _mm256_cmp_ps(x, _mm256_set1_ps(threshold), _CMP_GE_OQ);
      const auto hits = static_cast<unsigned>(_mm256_movemask_ps(above));
      int64_t next = found;
      for (unsigned left = hits; left != 0 && next < capacity; left &= left - 1) {
        ids[next++] = static_cast<int32_t>(j + __builtin_ctz(left));
      }
      found += __builtin_popcount(hits);
    }
  }
  return found;
}

void chunk_maxima(const float* logits, int64_t count, float* maxima) {
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (int64_t i = 0; i < count; i += kLogitChunk) {
    __m256 max = _mm256_set1_ps(-__builtin_inff());
    __m256 strange = _mm256_setzero_ps();
    for (int64_t j = i; j < i + kLogitChunk && j < count; j += 8) {
      const __m256 x = logits_at(logits, j, count);
      // Not less than infinity: NaN and both infinities; that of what is not there is no logit.
      const __m256 odd = _mm256_cmp_ps(_mm256_and_ps(x, magnitude), infinity, _CMP_NLT_UQ);
      const __m256 there = _mm256_castsi256_ps(first_of_eight(count - j));
      strange = _mm256_or_ps(strange, _mm256_and_ps(odd, there));
      max = _mm256_max_ps(max, x);
    }
    maxima[i / kLogitChunk] = _mm256_movemask_ps(strange) == 0 ? max256(max) : __builtin_nanf("");
  }
}

// Eight pages in flight: one stream alone leaves part of the bandwidth unused.
uint64_t read_memory(const void* data, int64_t bytes) {
  constexpr int64_t kPage = 4096;
  const auto* base = static_cast<const unsigned char*>(data);
  __m256i sum = _mm256_setzero_si256();
  for (int64_t begin = 0; begin < bytes; begin += 8 * kPage) {
    for (int64_t line = 0; line < kPage; line += 32) {
      TIDEMILL_UNROLL
      for (int64_t page = 0; page < 8; ++page) {
        const unsigned char* at = base + begin + page * kPage + line;
        sum = _mm256_add_epi64(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
      }
    }
  }
  alignas(32) uint64_t parts[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(parts), sum);
  return parts[0] + parts[1] + parts[2] + parts[3];
}

}  // namespace tidemill::avx2
