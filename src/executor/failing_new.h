// For tests: the operator new that obeys FailingAllocation. Included in one source of a program.
#pragma once

#include <cstdlib>
#include <new>

#include "executor/failing_allocation.h"

// Not inlined: the compiler would see free() behind new, and warn.
[[gnu::noinline]] void* operator new(size_t size) {
  tidemill::FailingAllocation::maybe_fail();
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
// Of memory resources.
[[gnu::noinline]] void* operator new(size_t size, std::align_val_t alignment) {
  tidemill::FailingAllocation::maybe_fail();
  const auto unit = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(unit, (size + unit - 1) / unit * unit)) return memory;
  throw std::bad_alloc();
}
// A sanitizer has one of its own for these, and would not let it meet the free() below.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}
