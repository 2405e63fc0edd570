// The variants, and the questions to the processor. Compiled for plain x86-64.
#include "kernels/select.h"

#include <cpuid.h>
#include <stdint.h>

#include <stdexcept>

#include "base/check.h"
#include "kernels/host/amx/products.h"
#include "kernels/host/amx/support.h"
#include "kernels/host/amx/tiles.h"
#include "kernels/host/drivers.h"
#include "kernels/host/peak/peak_amx.h"

namespace tidemill {
namespace {

constexpr Inner with_vnni(Inner inner) {
  inner.int8_halves = 1;
  inner.product_int8 = avx512vnni::product_int8;
  inner.product_int4 = avx512vnni::product_int4;
  inner.max_rows_integers = kVnniRows;
  inner.attention.attend_int8 = avx512vnni::attend_int8;
  inner.multiply_bytes = avx512vnni::multiply_bytes;
  return inner;
}

constexpr Inner with_bf16(Inner inner) {
  inner.product_bf16 = avx512bf16::product_bf16;
  inner.max_rows_bf16 = kBf16Rows;
  inner.attention.attend_bf16 = avx512bf16::attend_bf16;
  inner.multiply_bf16 = avx512bf16::multiply_bf16;
  return inner;
}

constexpr Inner with_int8_in_halves(Inner inner) {
  inner.int8_halves = 2;
  return inner;
}

constexpr Inner with_avx2_calls(Inner inner) {
  inner.max_rows_bf16 = kAvx2RowsBf16;
  inner.max_rows_integers = kAvx2RowsIntegers;
  inner.max_panels = kAvx2Panels;
  return inner;
}

// All that the files of one suffix define.
#define TIDEMILL_INNER(variant, state_type)                                                    \
  Inner {                                                                                      \
    variant::product_f32, variant::product_bf16, variant::product_int8, variant::product_int4, \
        AttentionInner{sizeof(state_type),   variant::attend_f32,  variant::attend_bf16,       \
                       variant::attend_int8, variant::clear_state, variant::merge_state,       \
                       variant::finish_state},                                                 \
        variant::normalize, variant::rotate, variant::finish, variant::finish_silu,            \
        variant::to_bf16, variant::quantize, variant::summarize, variant::sum_exp,             \
        variant::collect, variant::chunk_maxima, variant::read_memory, variant::multiply_f32,  \
        variant::multiply_bf16, variant::multiply_bytes                                        \
  }
constexpr Inner kReference = TIDEMILL_INNER(reference, double);
constexpr Inner kAvx2 = with_avx2_calls(with_int8_in_halves(TIDEMILL_INNER(avx2, float)));
constexpr Inner kAvx512 = with_int8_in_halves(TIDEMILL_INNER(avx512, float));
#undef TIDEMILL_INNER
constexpr Inner kAvx512Vnni = with_vnni(kAvx512);
constexpr Inner kAvx512Bf16 = with_bf16(kAvx512Vnni);

// Calls of as many rows and panels as tiles want.
constexpr Inner with_tiles(Inner inner) {
  inner.max_rows_bf16 = kAmxRows;
  inner.max_rows_integers = kAmxRows;
  inner.max_panels = kTilePanels;
  return inner;
}

constexpr Inner with_amx(Inner inner) {
  inner.product_bf16 = amx::product_bf16;
  inner.product_int8 = amx::product_int8;
  inner.product_int4 = amx::product_int4;
  inner.attention.attend_bf16 = amx::attend_bf16;
  inner.attention.attend_int8 = amx::attend_int8;
  inner.end_share = amx::release_tiles;
  inner.multiply_bf16 = amx::multiply_bf16;
  inner.multiply_bytes = amx::multiply_bytes;
  return with_tiles(inner);
}

constexpr Inner with_emulated_amx(Inner inner) {
  inner.product_bf16 = amx_emulated::product_bf16;
  inner.product_int8 = amx_emulated::product_int8;
  inner.product_int4 = amx_emulated::product_int4;
  return with_tiles(inner);
}

constexpr Inner with_emulated_amx_and_avx512(Inner inner) {
  inner.product_bf16 = amx_emulated::product_bf16_with_avx512;
  inner.product_int8 = amx_emulated::product_int8_with_avx512;
  inner.product_int4 = amx_emulated::product_int4_with_avx512;
  inner.attention.attend_bf16 = amx_emulated::attend_bf16_with_avx512;
  inner.attention.attend_int8 = amx_emulated::attend_int8_with_avx512;
  return with_tiles(inner);
}

constexpr Inner kAmx = with_amx(kAvx512Bf16);
constexpr Inner kAmxEmulated = with_emulated_amx(kReference);
constexpr Inner kAmxEmulatedAvx2 = with_emulated_amx(kAvx2);
constexpr Inner kAmxEmulatedAvx512 = with_emulated_amx_and_avx512(kAvx512);

constexpr Kernels kReferenceKernels = host::make_kernels<kReference>(
    "reference", "plain C++, sums in double: the meaning of the rest");
constexpr Kernels kAvx2Kernels =
    host::make_kernels<kAvx2>("avx2", "AVX2 and FMA; bf16 by shift and mask");
constexpr Kernels kAvx512Kernels = host::make_kernels<kAvx512>(
    "avx512", "AVX-512 alone: bf16 by shift and mask, integers by VPMADDUBSW");
constexpr Kernels kAvx512VnniKernels =
    host::make_kernels<kAvx512Vnni>("avx512", "AVX-512 with VNNI; bf16 by shift and mask");
constexpr Kernels kAvx512Bf16Kernels =
    host::make_kernels<kAvx512Bf16>("avx512", "AVX-512 with VNNI and VDPBF16PS");
// Tiles multiply a row so much faster that a strip of 48 waits for its panels from the shared
// cache: with 256 rows prefill of SmolLM2 had 1.1 to 1.2 times the tokens/s (docs/performance/).
constexpr StripSize kStripOfTiles{
    .rows = 192, .multiple_of = 2 * kTileHeight, .rows_together = 256};
constexpr Kernels kAmxKernels = host::make_kernels<kAmx>(
    "amx", "tile instructions, AVX-512 for what is between", kStripOfTiles);
constexpr const char* kEmulated = "for tests: amx with its tiles in plain C++";
constexpr Kernels kAmxEmulatedKernels = host::make_kernels<kAmxEmulated>("amx_emulated", kEmulated);
constexpr Kernels kAmxEmulatedAvx2Kernels =
    host::make_kernels<kAmxEmulatedAvx2>("amx_emulated", kEmulated);
constexpr Kernels kAmxEmulatedAvx512Kernels =
    host::make_kernels<kAmxEmulatedAvx512>("amx_emulated", kEmulated);

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool has(uint32_t word, int bit) { return ((word >> bit) & 1u) != 0; }

// Which register states the operating system saves (XCR0); none without OSXSAVE.
uint64_t saved_states(bool has_osxsave) {
  if (!has_osxsave) return 0;
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

struct Answers {
  Registers leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0), leaf7_1 = cpuid(7, 1);
  uint64_t saved = saved_states(has(leaf1.ecx, 27));
};

// Asked once: in a virtual machine each CPUID is a way to the hypervisor and back, and tests ask
// for a variant with every tensor.
const Answers& processor() {
  static const Answers answers;
  return answers;
}

constexpr uint64_t kAvxStates = 0x6;      // XMM, YMM
constexpr uint64_t kAvx512States = 0xe6;  // and masks, upper halves, upper registers

std::string missing_for_avx2() {
  const Registers basic = processor().leaf1;
  if ((processor().saved & kAvxStates) != kAvxStates)
    return "the system does not save AVX registers";
  if (!has(processor().leaf7.ebx, 5)) return "the processor has no AVX2";
  if (!has(basic.ecx, 12)) return "the processor has no FMA";
  if (!has(basic.ecx, 29)) return "the processor has no F16C";
  return "";
}

std::string missing_for_avx512() {
  if (std::string missing = missing_for_avx2(); !missing.empty()) return missing;
  if ((processor().saved & kAvx512States) != kAvx512States) {
    return "the system does not save AVX-512 registers";
  }
  const uint32_t features = processor().leaf7.ebx;
  constexpr std::pair<int, const char*> kNeeded[] = {
      {16, "AVX512F"}, {17, "AVX512DQ"}, {30, "AVX512BW"}, {31, "AVX512VL"}};
  for (const auto& [bit, name] : kNeeded) {
    if (!has(features, bit)) return format("the processor has no {}", name);
  }
  return "";
}

bool has_avx512_vnni() { return has(processor().leaf7.ecx, 11); }
bool has_avx512_bf16() { return has_avx512_vnni() && has(processor().leaf7_1.eax, 5); }

std::string missing_for_amx() {
  if (std::string missing = missing_for_avx512(); !missing.empty()) return missing;
  // Once per process: variants are listed before a thread computes.
  static const std::string missing = missing_for_tiles({.leaf7_ecx = processor().leaf7.ecx,
                                                        .leaf7_edx = processor().leaf7.edx,
                                                        .leaf7_1_eax = processor().leaf7_1.eax,
                                                        .saved_states = processor().saved});
  return missing;
}

}  // namespace

std::vector<Variant> variants() {
  const Kernels* avx512 = has_avx512_bf16()   ? &kAvx512Bf16Kernels
                          : has_avx512_vnni() ? &kAvx512VnniKernels
                                              : &kAvx512Kernels;
  return {{&kReferenceKernels, ""},
          {&kAvx2Kernels, missing_for_avx2()},
          {avx512, missing_for_avx512()},
          {&kAmxKernels, missing_for_amx()}};
}

std::vector<const Kernels*> runnable_variants() {
  std::vector<const Kernels*> runnable;
  for (const Variant& variant : variants()) {
    if (variant.why_not.empty()) runnable.push_back(variant.kernels);
  }
  return runnable;
}

namespace {

// The one with the kernels beside it that are fastest here.
const Kernels* emulated_amx() {
  if (missing_for_avx512().empty()) return &kAmxEmulatedAvx512Kernels;
  return missing_for_avx2().empty() ? &kAmxEmulatedAvx2Kernels : &kAmxEmulatedKernels;
}

}  // namespace

std::vector<const Kernels*> runnable_implementations() {
  std::vector<const Kernels*> runnable = runnable_variants();
  if (missing_for_avx512().empty()) {
    if (has_avx512_bf16()) runnable.push_back(&kAvx512VnniKernels);
    if (has_avx512_vnni()) runnable.push_back(&kAvx512Kernels);
  }
  runnable.push_back(emulated_amx());
  return runnable;
}

const Kernels& select_kernels(std::string_view name) {
  if (name == "auto") return *runnable_variants().back();
  std::string names;
  for (const Variant& variant : variants()) {
    if (variant.kernels->name != name) {
      names += format(" {}", variant.kernels->name);
      continue;
    }
    if (variant.why_not.empty()) return *variant.kernels;
    throw std::runtime_error(
        format("isa {} cannot run here: {}. Use auto.", name, variant.why_not));
  }
  throw std::runtime_error(format("isa is {}; it must be auto or one of:{}.", name, names));
}

}  // namespace tidemill
