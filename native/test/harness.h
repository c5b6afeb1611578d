// A unit-test harness in one page: TEST("what") { ... CHECK(condition); CHECK_THROWS(expression, Type); }
// A failed check is reported and counted; the test goes on. test_main.cpp runs them all, or those whose name contains an
// argument.
#pragma once

#include <cstdio>

namespace longlive::test {

struct Case {
  const char* name;
  void (*body)();
  Case* next;
};

// Whether the code is built for AddressSanitizer, which makes the portable kernels about ten times as slow.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

inline Case* cases = nullptr;
inline int failures = 0;

struct Register {
  Case entry;
  Register(const char* name, void (*body)()) : entry{name, body, cases} { cases = &entry; }
};

inline void fail(const char* file, int line, const char* what) {
  if (++failures <= 50) std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
}

}  // namespace longlive::test

#define LONGLIVE_JOIN2(a, b) a##b
#define LONGLIVE_JOIN(a, b) LONGLIVE_JOIN2(a, b)
#define LONGLIVE_TEST(name, id)                                                            \
  static void LONGLIVE_JOIN(testBody, id)();                                               \
  static longlive::test::Register LONGLIVE_JOIN(testEntry, id)(name, LONGLIVE_JOIN(testBody, id)); \
  static void LONGLIVE_JOIN(testBody, id)()
#define TEST(name) LONGLIVE_TEST(name, __COUNTER__)

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) longlive::test::fail(__FILE__, __LINE__, #condition);     \
  } while (false)

#define CHECK_THROWS(expression, Type)                                                              \
  do {                                                                                              \
    bool threw = false;                                                                             \
    try { (void)(expression); } catch (const Type&) { threw = true; }                               \
    if (!threw) longlive::test::fail(__FILE__, __LINE__, #expression " does not throw " #Type);      \
  } while (false)
