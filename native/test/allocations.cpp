#include "allocations.h"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

bool fails() {
  using longlive::test::allocationsUntilFailure;
  int64_t left = allocationsUntilFailure.load(std::memory_order_relaxed);
  while (left >= 0 && !allocationsUntilFailure.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
  }
  return left == 0;
}

void* allocate(size_t size, size_t alignment) {
  if (alignment == 1) longlive::test::allocations.fetch_add(1, std::memory_order_relaxed);
  if (fails()) throw std::bad_alloc();
  void* p = alignment <= alignof(std::max_align_t) ? std::malloc(size ? size : 1) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!p) throw std::bad_alloc();
  return p;
}

void* allocateOrNull(size_t size, size_t alignment) noexcept {
  try {
    return allocate(size, alignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

}  // namespace

void* operator new(size_t size) { return allocate(size, 1); }
void* operator new[](size_t size) { return allocate(size, 1); }
void* operator new(size_t size, std::align_val_t a) { return allocate(size, static_cast<size_t>(a)); }
void* operator new[](size_t size, std::align_val_t a) { return allocate(size, static_cast<size_t>(a)); }
// A sanitizer has these of its own, whose memory is not for the std::free below.
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocateOrNull(size, 1); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return allocateOrNull(size, 1); }
void* operator new(size_t size, std::align_val_t a, const std::nothrow_t&) noexcept { return allocateOrNull(size, static_cast<size_t>(a)); }
void* operator new[](size_t size, std::align_val_t a, const std::nothrow_t&) noexcept { return allocateOrNull(size, static_cast<size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }
