// The variants, and the questions to the processor. Compiled for plain x86-64.
#include "kernels/select.h"

#include <cpuid.h>
#include <stdint.h>

#include <stdexcept>

#include "base/check.h"
#include "kernels/host/drivers.h"

namespace tidemill {
namespace {

// What a processor with AVX512_BF16 does better.
constexpr Inner with_bf16(Inner inner) {
  inner.product_bf16 = avx512bf16::product_bf16;
  inner.attention.attend_bf16 = avx512bf16::attend_bf16;
  inner.attention.multiply_bf16 = avx512bf16::multiply;
  return inner;
}

constexpr AttentionInner kReferenceAttention{
    sizeof(double),         reference::attend_f32,   reference::attend_bf16, reference::clear_state,
    reference::merge_state, reference::finish_state, reference::multiply,    reference::multiply};
constexpr AttentionInner kAvx2Attention{sizeof(float),     avx2::attend_f32,  avx2::attend_bf16,
                                        avx2::clear_state, avx2::merge_state, avx2::finish_state,
                                        avx2::multiply,    avx2::multiply};
constexpr AttentionInner kAvx512Attention{
    sizeof(float),       avx512::attend_f32,   avx512::attend_bf16, avx512::clear_state,
    avx512::merge_state, avx512::finish_state, avx512::multiply,    avx512::multiply};

constexpr Inner kReference{reference::product_f32, reference::product_bf16,  kReferenceAttention,
                           reference::normalize,   reference::silu_times_up, reference::to_bf16,
                           reference::summarize,   reference::sum_exp,       reference::collect,
                           reference::read_memory};
constexpr Inner kAvx2{avx2::product_f32,   avx2::product_bf16, kAvx2Attention,  avx2::normalize,
                      avx2::silu_times_up, avx2::to_bf16,      avx2::summarize, avx2::sum_exp,
                      avx2::collect,       avx2::read_memory};
constexpr Inner kAvx512{avx512::product_f32, avx512::product_bf16,  kAvx512Attention,
                        avx512::normalize,   avx512::silu_times_up, avx512::to_bf16,
                        avx512::summarize,   avx512::sum_exp,       avx512::collect,
                        avx512::read_memory};
constexpr Inner kAvx512Bf16 = with_bf16(kAvx512);

constexpr Kernels kReferenceKernels = host::make_kernels<kReference>(
    "reference", "plain C++, sums in double: the meaning of the rest");
constexpr Kernels kAvx2Kernels =
    host::make_kernels<kAvx2>("avx2", "AVX2 and FMA; bf16 by shift and mask");
constexpr Kernels kAvx512Kernels =
    host::make_kernels<kAvx512>("avx512", "AVX-512 without bf16 instructions: shift and mask");
constexpr Kernels kAvx512Bf16Kernels =
    host::make_kernels<kAvx512Bf16>("avx512", "AVX-512 with VDPBF16PS");

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
uint64_t saved_states() {
  if (!has(cpuid(1, 0).ecx, 27)) return 0;
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

constexpr uint64_t kAvxStates = 0x6;      // XMM, YMM
constexpr uint64_t kAvx512States = 0xe6;  // and masks, upper halves, upper registers

std::string missing_for_avx2() {
  const Registers basic = cpuid(1, 0);
  if ((saved_states() & kAvxStates) != kAvxStates) return "the system does not save AVX registers";
  if (!has(cpuid(7, 0).ebx, 5)) return "the processor has no AVX2";
  if (!has(basic.ecx, 12)) return "the processor has no FMA";
  if (!has(basic.ecx, 29)) return "the processor has no F16C";
  return "";
}

std::string missing_for_avx512() {
  if (std::string missing = missing_for_avx2(); !missing.empty()) return missing;
  if ((saved_states() & kAvx512States) != kAvx512States) {
    return "the system does not save AVX-512 registers";
  }
  const uint32_t features = cpuid(7, 0).ebx;
  constexpr std::pair<int, const char*> kNeeded[] = {
      {16, "AVX512F"}, {17, "AVX512DQ"}, {30, "AVX512BW"}, {31, "AVX512VL"}};
  for (const auto& [bit, name] : kNeeded) {
    if (!has(features, bit)) return format("the processor has no {}", name);
  }
  return "";
}

bool has_avx512_bf16() { return has(cpuid(7, 1).eax, 5); }

}  // namespace

std::vector<Variant> variants() {
  const Kernels* avx512 = has_avx512_bf16() ? &kAvx512Bf16Kernels : &kAvx512Kernels;
  return {{&kReferenceKernels, ""},
          {&kAvx2Kernels, missing_for_avx2()},
          {avx512, missing_for_avx512()}};
}

std::vector<const Kernels*> runnable_variants() {
  std::vector<const Kernels*> runnable;
  for (const Variant& variant : variants()) {
    if (variant.why_not.empty()) runnable.push_back(variant.kernels);
  }
  return runnable;
}

std::vector<const Kernels*> runnable_implementations() {
  std::vector<const Kernels*> runnable = runnable_variants();
  if (runnable.back() == &kAvx512Bf16Kernels) runnable.push_back(&kAvx512Kernels);
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
