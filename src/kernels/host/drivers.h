// The menu entries of the host family: shares work among lanes, calls a variant's inner loops,
// applies epilogues, meets. One body for all variants; the variant is a template argument, so that
// a menu entry stays a plain function pointer.
#pragma once

#include <string.h>

#include <algorithm>

#include "kernels/element_bytes.h"
#include "kernels/host/attention_driver.h"
#include "kernels/host/driver_parts.h"
#include "kernels/host/inner.h"
#include "kernels/host/kv_store.h"
#include "kernels/host/store_row.h"
#include "kernels/kernels.h"
#include "parallel/lane.h"

namespace tidemill::host {

inline void embed(Lane& lane, const PackedWeight& weight, const int32_t* ids, Tensor out) {
  const Range rows = lane.share(out.rows);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    unpack_row(weight, ids[row], float_row(out, row));
    clear_padding(out, row);
  }
  lane.meet();
}

template <const Inner& kInner>
void rms_norm(Lane& lane, Tensor in, const int32_t* rows, const float* scale, float epsilon,
              Tensor out) {
  const Range share = lane.share(out.rows);
  for (int64_t row = share.begin; row < share.end; ++row) {
    const float* source = float_row(in, rows == nullptr ? row : rows[row]);
    if (out.type == DType::kF32) {
      kInner.normalize(source, scale, out.cols, epsilon, float_row(out, row));
      clear_padding(out, row);
      continue;
    }
    alignas(64) float normed[kMaxRowFloats];  // a quarter of a MiB of stack, of which cols are used
    kInner.normalize(source, scale, out.cols, epsilon, normed);
    if (out.type == DType::kInt8) {
      kInner.quantize(normed, out.cols, out.form, out.stride, row_of(out, row));
    } else {
      store<kInner>(normed, out.cols, out, row, 0);
    }
  }
  lane.meet();
}

template <const Inner& kInner>
void quantize(Lane& lane, Tensor in, Tensor out) {
  const Range rows = lane.share(out.rows);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    kInner.quantize(float_row(in, row), out.cols, out.form, out.stride, row_of(out, row));
  }
  lane.meet();
}

// A tile's rows of sums, `parts` for each row of the input, become rows of `out`.
template <const Inner& kInner>
void finish_tile(const ProductTile& tile, int64_t parts, int64_t first_row, int64_t first_panel,
                 const Epilogue& epilogue, const Tensor& out) {
  const int64_t channel = first_panel * kPanelChannels;
  const int64_t column = epilogue.silu_times_up ? channel / 2 : channel;
  const int64_t channels = tile.num_panels * kPanelChannels;
  const int64_t cols = epilogue.silu_times_up ? channels / 2 : channels;
  const int64_t bytes = element_bytes(out.type);
  FinishedTile finished{.sums = tile.sums,
                        .parts = parts,
                        .num_rows = tile.num_rows / parts,
                        .num_cols = std::min(cols, out.cols - column),
                        .bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + channel,
                        .out = row_of(out, first_row) + column * bytes,
                        .out_stride = out.stride * bytes,
                        .type = out.type};
  if (epilogue.residual != nullptr) {
    finished.residual = float_row(*epilogue.residual, first_row) + column;
    finished.residual_stride = epilogue.residual->stride;
  }
  (epilogue.silu_times_up ? kInner.finish_silu : kInner.finish)(finished);
  if (column + finished.num_cols < out.cols) return;
  for (int64_t row = 0; row < finished.num_rows; ++row) clear_padding(out, first_row + row);
}

// And what those rows come to, while they are in the core's cache. `first_row` and the columns are
// those of finish_tile; they begin with a chunk.
template <const Inner& kInner>
void find_chunk_maxima(int64_t num_rows, int64_t num_panels, int64_t first_row, int64_t first_panel,
                       const Tensor& out, const Tensor& maxima) {
  const int64_t column = first_panel * kPanelChannels;
  const int64_t cols = std::min(num_panels * kPanelChannels, out.cols - column);
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    kInner.chunk_maxima(float_row(out, row) + column, cols,
                        float_row(maxima, row) + column / kLogitChunk);
  }
}

// Where the tile of the rows from `row` on finds panels to fetch: the second and third tile of a
// group (the first is held up by memory itself) bring the group behind it into L2, as long as both
// groups have room there. A variant of larger tiles is told where the group behind begins.
inline const unsigned char* ahead_of(const unsigned char* next_group, int64_t num_next_panels,
                                     int64_t panel_stride, int64_t row, int64_t max_rows) {
  if (max_rows > kTileRows) return row == 0 && num_next_panels > 0 ? next_group : nullptr;
  constexpr int64_t kMaxGroupBytes = 400 * 1024;  // two of them in 1 MiB of L2
  constexpr int64_t kPanelsPerTile = kTilePanels / 4 * kPanelsAhead;
  const int64_t first = (row / kTileRows - 1) * kPanelsPerTile;
  const bool wanted = first >= 0 && first < num_next_panels;
  const bool fits = kTilePanels * panel_stride <= kMaxGroupBytes;
  return wanted && fits ? next_group + first * panel_stride : nullptr;
}

template <const Inner& kInner>
constexpr auto product_of(Numbers numbers) {
  switch (numbers) {
    case Numbers::kBf16:
      return kInner.product_bf16;
    case Numbers::kInt8:
      return kInner.product_int8;
    case Numbers::kInt4:
      return kInner.product_int4;
    case Numbers::kF32:
      break;
  }
  return kInner.product_f32;
}

template <const Inner& kInner>
constexpr int64_t max_rows_of(Numbers numbers) {
  switch (numbers) {
    case Numbers::kBf16:
      return kInner.max_rows_bf16;
    case Numbers::kInt8:
    case Numbers::kInt4:
      return kInner.max_rows_integers;
    case Numbers::kF32:
      break;
  }
  return kTileRows;
}

// Most panels of a piece. All rows of the step pass over it: what the lanes have of them must not
// leave the shared cache meanwhile.
template <const Inner& kInner>
constexpr int64_t max_panels_of(Numbers numbers, int64_t panel_stride) {
  constexpr int64_t kMaxPieceBytes = int64_t{2} << 20;
  const bool wide = numbers == Numbers::kBf16 || numbers == Numbers::kInt8;
  return wide && kInner.max_panels * panel_stride <= kMaxPieceBytes ? kInner.max_panels
                                                                    : kTilePanels;
}

// Each lane takes a contiguous range of panels, and helps others when it is done; a group of panels
// is read from memory once and used by all rows while it is in the cache. A tile counts the runs of
// its input: a row in two parts is two of them.
template <const Inner& kInner>
void matmul(Lane& lane, Tensor in, const PackedWeight& weight, const Epilogue& epilogue,
            Tensor out) {
  static_assert(kInner.max_rows_integers % 2 == 0, "both runs of a row are in one tile");
  static_assert(kInner.max_panels % kTilePanels == 0, "sums of kTilePanels are together");
  constexpr int64_t kChunkPanels = kLogitChunk / kPanelChannels;
  static_assert(kTilePanels / 2 % kChunkPanels == 0, "a piece is of whole chunks");
  // A chunk stays together, or gate and up.
  const int64_t grain = epilogue.chunk_maxima != nullptr ? kChunkPanels : 2;
  const int64_t all_panels = num_panels(weight.n);
  const Range own = lane.share(all_panels, grain);
  const auto panel_stride = static_cast<int64_t>(panel_bytes(weight.format, weight.k));
  const auto product = product_of<kInner>(weight.format.numbers);
  const int64_t parts = in.form.parts;
  const int64_t runs = in.rows * parts;
  const int64_t run_bytes = in.stride * element_bytes(in.type);
  const int64_t max_runs = max_rows_of<kInner>(weight.format.numbers);
  constexpr int64_t kMaxRows = std::max(kInner.max_rows_bf16, kInner.max_rows_integers);
  constexpr int64_t kNextSums = kMaxRows * kRowSums;
  alignas(64) float sums[kInner.max_panels / kTilePanels * kNextSums];
  const auto multiply = [&](Range panels) {
    const unsigned char* group = weight.data + panels.begin * panel_stride;
    const unsigned char* next_group = weight.data + panels.end * panel_stride;
    const bool is_own = panels.begin >= own.begin && panels.end <= own.end;
    const int64_t num_next_panels = is_own ? own.end - panels.end : 0;
    for (int64_t run = 0; run < runs; run += max_runs) {
      const ProductTile tile{
          .in = static_cast<const unsigned char*>(in.data) + run * run_bytes,
          .in_stride = run_bytes,
          .num_rows = std::min(max_runs, runs - run),
          .panels = group,
          .ahead = ahead_of(next_group, num_next_panels, panel_stride, run, max_runs),
          .panels_are_near = run > 0,
          .panel_stride = panel_stride,
          .num_panels = panels.size(),
          .num_steps = num_number_rows(weight.format, weight.k),
          .sums = sums,
          .next_sums = kNextSums,
          .format = weight.format,
          .num_inputs = padded_k(weight.format, weight.k),
          .wanted = lane.wanted()};
      product(tile);
      ProductTile part = tile;
      for (int64_t p = 0; p < panels.size(); p += kTilePanels, part.sums += kNextSums) {
        part.num_panels = std::min<int64_t>(kTilePanels, panels.size() - p);
        finish_tile<kInner>(part, parts, run / parts, panels.begin + p, epilogue, out);
        if (epilogue.chunk_maxima == nullptr) continue;
        find_chunk_maxima<kInner>(part.num_rows / parts, part.num_panels, run / parts,
                                  panels.begin + p, out, *epilogue.chunk_maxima);
      }
    }
  };
  if (runs > kTileRows) {
    const PieceSize pieces{.most = max_panels_of<kInner>(weight.format.numbers, panel_stride),
                           .least = kTilePanels / 2};
    const auto share = [&](int owner) {
      return Lane::share_of(owner, lane.count(), all_panels, grain);
    };
    lane.share_out(share, pieces, multiply);
  } else {
    // Memory is the limit: whoever reads another's panels starts a stream that ends at once.
    for (int64_t panel = own.begin; panel < own.end; panel += kTilePanels) {
      multiply({panel, std::min(panel + kTilePanels, own.end)});
    }
  }
  if (kInner.end_share != nullptr) kInner.end_share();
  lane.meet();
}

// out = the head of a row, normalised where there is a norm, rotated by its position.
template <const Inner& kInner>
void rotate_head(const float* head, const float* norm, const Rotary& rotary, int64_t dim,
                 int32_t position, float* out) {
  float normed[kMaxHeadDim];
  if (norm != nullptr) {
    norm_head(head, norm, rotary.norm_epsilon, dim, normed);
    head = normed;
  }
  const int64_t angles = position * (dim / 2);
  kInner.rotate(head, rotary.cos + angles, rotary.sin + angles, dim / 2, out);
}

template <const Inner& kInner>
void rotate_and_store(Lane& lane, Tensor qkv, const AttentionShape& shape, const Rotary& rotary,
                      const TokenRows& rows, Tensor q_out, KvLayer cache) {
  const int64_t heads = shape.num_heads + 2 * shape.num_kv_heads;
  const Range units = lane.share(rows.count * heads);
  alignas(64) float values[kMaxHeadDim];
  alignas(64) uint16_t rounded[kMaxHeadDim];
  // Slots two rows ahead, and a row ahead, but only where this lane writes keys: else it would take
  // lines from one that does.
  const auto fetch = [&](Distance distance, int64_t row) {
    const int64_t first_key = row * heads + shape.num_heads;
    const bool writes_keys = first_key < units.end && first_key + shape.num_kv_heads > units.begin;
    if (writes_keys) fetch_slot(distance, shape, rows, row, cache);
  };
  const auto fetch_ahead_of = [&](int64_t row, bool is_first) {
    if (is_first) {
      fetch(Distance::kFar, row);
      fetch(Distance::kFar, row + 1);
      fetch(Distance::kNear, row);
    }
    fetch(Distance::kNear, row + 1);
    fetch(Distance::kFar, row + 2);
  };
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    const int64_t row = unit / heads;
    const int64_t head = unit % heads;
    if (unit == units.begin || head == 0) fetch_ahead_of(row, unit == units.begin);
    const float* source = float_row(qkv, row) + head * shape.head_dim;
    if (head < shape.num_heads) {
      rotate_head<kInner>(source, rotary.q_norm, rotary, shape.head_dim, rows.positions[row],
                          values);
      store<kInner>(values, shape.head_dim, q_out, row, head * shape.head_dim);
      continue;
    }
    const bool is_key = head < shape.num_heads + shape.num_kv_heads;
    const int64_t kv_head = head - shape.num_heads - (is_key ? 0 : shape.num_kv_heads);
    if (is_key) {
      rotate_head<kInner>(source, rotary.k_norm, rotary, shape.head_dim, rows.positions[row],
                          values);
      source = values;
    }
    if (cache.type == DType::kBf16) {
      kInner.to_bf16(source, shape.head_dim, rounded);
      is_key ? store_key(rounded, shape, rows, row, kv_head, cache)
             : store_value(rounded, shape, rows, row, kv_head, cache);
    } else {
      is_key ? store_key(source, shape, rows, row, kv_head, cache)
             : store_value(source, shape, rows, row, kv_head, cache);
    }
  }
  lane.meet();
}

template <const Inner& kInner>
LogitSummary summarize_logits(const Logits& logits) {
  LogitSummary summary;
  kInner.summarize(logits, &summary);
  return summary;
}

template <const Inner& kInner>
int64_t multiply_peak(Numbers numbers, int64_t rounds) {
  switch (numbers) {
    case Numbers::kBf16:
      return kInner.multiply_bf16(rounds);
    case Numbers::kInt8:
      return kInner.multiply_bytes(rounds) / kInner.int8_halves;
    case Numbers::kInt4:
      return kInner.multiply_bytes(rounds);
    case Numbers::kF32:
      break;
  }
  return kInner.multiply_f32(rounds);
}

template <const Inner& kInner>
constexpr Kernels make_kernels(const char* name, const char* description, StripSize strip = {}) {
  return {.name = name,
          .description = description,
          .strip = strip,
          .allocate = allocate,
          .touch = touch,
          .embed = embed,
          .rms_norm = rms_norm<kInner>,
          .quantize = quantize<kInner>,
          .matmul = matmul<kInner>,
          .rotate_and_store = rotate_and_store<kInner>,
          .plan_attention = plan_attention<kInner>,
          .attention = attention<kInner>,
          .summarize_logits = summarize_logits<kInner>,
          .sum_exp = kInner.sum_exp,
          .collect_at_least = kInner.collect,
          .chunk_maxima = kInner.chunk_maxima,
          .read_memory = kInner.read_memory,
          .multiply_peak = multiply_peak<kInner>};
}

}  // namespace tidemill::host
