// Products of warpgroups (wgmma): 128 threads ask for them, groups of them are committed, and waited for.
#include <algorithm>
#include <deque>
#include <vector>

#include "e4m3.h"
#include "fibres.h"
#include "hopper.h"

namespace emulator {

namespace {

constexpr unsigned kGroup = 128;   // threads
constexpr int kRows = 64, kDeepBytes = 32, kMostColumns = 256, kMostDeep = 32;

struct Thread {
  std::vector<Product> open;
  std::deque<std::vector<Product>> committed;  // until the others have committed theirs
  uint64_t commits = 0;
  bool fenced = false;
};

// Four warps, which may drift apart. The threads of a warp may not: to commit and to wait is something that they do together.
struct Warpgroup {
  std::deque<unsigned> arrived;                 // at the commits that not all threads have reached
  std::deque<std::vector<Product>> committed;   // by all: [product][thread]
  uint64_t performed = 0, wanted = 0;           // of their groups
  bool asked = false;                           // for what is wanted, when nobody can go on
};

std::vector<Thread> threads;  // of the cluster
std::vector<Warpgroup> warpgroups;
unsigned threadsOfBlock = 0, groupsOfBlock = 0;

Warpgroup& warpgroupAtHand() { return warpgroups[currentBlock() * groupsOfBlock + currentThread() / kGroup]; }
Thread& threadOf(unsigned number) { return threads[currentBlock() * threadsOfBlock + number]; }
Thread& threadAtHand() { return threadOf(currentThread()); }

// -- operands ---------------------------------------------------------------------------------------------------------------

// A matrix in shared memory as the instruction's descriptor has it. The swizzle is one of addresses.
struct Description {
  uint32_t start, leading, stride, span;

  explicit Description(uint64_t bits)
      : start(field(bits, 0)), leading(field(bits, 16)), stride(field(bits, 32)) {
    const uint64_t mode = bits >> 62;  // 0 none, 1 128 bytes, 2 64, 3 32
    if (mode == 0 || bits >> 49 & 7) die("a matrix without a swizzle, or with a base offset");  // not emulated
    span = 256u >> mode;
  }
  static uint32_t field(uint64_t bits, int at) { return static_cast<uint32_t>(bits >> at & 0x3fff) << 4; }
  // 16 bytes that an unswizzled matrix would have there.
  const unsigned char* at(uint32_t offset) const { return atSharedAddress(static_cast<uint32_t>(swizzled(start + offset, span)), 16); }
  // Of a row's 32 bytes of depth ("K-major"): rows `span` apart, eight to the next `stride`.
  const unsigned char* alongDepth(int row, int piece) const {
    return at(static_cast<uint32_t>(row / 8) * stride + static_cast<uint32_t>(row % 8) * span + static_cast<uint32_t>(piece) * 16);
  }
  // Eight rows at a depth ("MN-major"): `span` bytes of rows, `leading` to the next; depths `span` apart, eight to the next `stride`.
  const unsigned char* alongRows(int row, int depth) const {
    const uint32_t byte = static_cast<uint32_t>(row) * 2;
    return at(byte / span * leading + byte % span + static_cast<uint32_t>(depth / 8) * stride + static_cast<uint32_t>(depth % 8) * span);
  }
};

template <class Number> Number numberOf(Element element, const unsigned char* p) {
  if (element == Element::Int8) return static_cast<Number>(static_cast<int8_t>(*p));
  if (element == Element::E4m3) return static_cast<Number>(longlive::fromE4m3(*p));
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return static_cast<Number>(__uint_as_float(static_cast<unsigned>(bits) << 16));
}

// Transposed, so that products run along neighbours.
template <class Number> struct Matrix { Number at[kMostDeep][kMostColumns]; };

template <class Number> void read(Matrix<Number>& m, int rows, uint64_t description, Element element, bool alongRows) {
  const Description d(description);
  const int bytes = element == Element::Bf16 ? 2 : 1, count = 16 / bytes;
  if (alongRows) {
    for (int depth = 0; depth < kDeepBytes / 2; ++depth)
      for (int row = 0; row < rows; row += 8) {
        const unsigned char* p = d.alongRows(row, depth);
        for (int i = 0; i < 8; ++i) m.at[depth][row + i] = numberOf<Number>(element, p + 2 * i);
      }
    return;
  }
  for (int row = 0; row < rows; ++row)
    for (int piece = 0; piece < kDeepBytes / 16; ++piece) {
      const unsigned char* p = d.alongDepth(row, piece);
      for (int i = 0; i < count; ++i) m.at[piece * count + i][row] = numberOf<Number>(element, p + i * bytes);
    }
}

// Thread 32 w + 4 g + t holds word t, and t + 4, of the rows 16 w + g, and eight further down.
template <class Number> void read(Matrix<Number>& m, const Product* of, Element element) {
  const int bytes = element == Element::Bf16 ? 2 : 1, count = 4 / bytes;
  for (int thread = 0; thread < static_cast<int>(kGroup); ++thread)
    for (int word = 0; word < 4; ++word) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + word % 2 * 8, first = (thread % 4 + word / 2 * 4) * count;
      unsigned char p[4];
      std::memcpy(p, of[thread].words + word, 4);
      for (int i = 0; i < count; ++i) m.at[first + i][row] = numberOf<Number>(element, p + i * bytes);
    }
}

template <class Number> void perform(const Product* of) {
  static Matrix<Number> a, b;
  static Number sums[kRows][kMostColumns];
  const Product& p = *of;
  if (p.words) read(a, of, p.element);
  else read(a, kRows, p.a, p.element, false);
  read(b, p.columns, p.b, p.element, p.alongRows);
  // The thread 32 w + 4 g + t holds of every eight columns 2 t and the next, of the rows 16 w + g and, in the last two of four, eight more.
  const auto exchange = [&](auto move) {
    for (int thread = 0; thread < static_cast<int>(kGroup); ++thread) {
      Number* own = static_cast<Number*>(of[thread].sums);
      for (int low = 0; low < 2; ++low) {
        Number* row = sums[thread / 32 * 16 + thread % 32 / 4 + low * 8] + thread % 4 * 2;
        for (int n = 0; n < p.columns; n += 8) move(own[n / 2 + 2 * low], row[n]), move(own[n / 2 + 2 * low + 1], row[n + 1]);
      }
    }
  };
  if (p.accumulate) exchange([](Number& mine, Number& sum) { sum = mine; });
  else std::memset(sums, 0, sizeof sums);
  const int deep = kDeepBytes / (p.element == Element::Bf16 ? 2 : 1);
  for (int row = 0; row < kRows; ++row)
    for (int k = 0; k < deep; ++k) {
      const Number factor = a.at[k][row];
      for (int n = 0; n < p.columns; ++n) sums[row][n] += factor * b.at[k][n];
    }
  exchange([](Number& mine, Number& sum) { mine = sum; });
}

void performOldest(Warpgroup& g) {
  const std::vector<Product> group = std::move(g.committed.front());
  g.committed.pop_front();
  for (size_t i = 0; i < group.size(); i += kGroup) {
    if (group[i].element == Element::Int8) perform<int32_t>(&group[i]);
    else perform<float>(&group[i]);
  }
  ++g.performed;
}

void ask(Warpgroup& g) {
  if (g.asked || g.committed.empty() || g.performed >= g.wanted) return;
  g.asked = true;
  whenStuck([&g] {
    g.asked = false;
    while (g.performed < g.wanted && !g.committed.empty()) performOldest(g);
  });
}

bool isSame(const Product& x, const Product& y) {
  return x.element == y.element && x.columns == y.columns && !x.words == !y.words && x.a == y.a && x.b == y.b && x.alongRows == y.alongRows &&
         x.accumulate == y.accumulate;
}

// Puts the oldest products of all threads of the warpgroup at hand together, which must be the same.
void gather(Warpgroup& g) {
  const unsigned first = currentThread() / kGroup * kGroup;
  const std::vector<Product> pattern = threadOf(first).committed.front();
  std::vector<Product> group(pattern.size() * kGroup);
  for (unsigned i = 0; i < kGroup; ++i) {
    std::deque<std::vector<Product>>& committed = threadOf(first + i).committed;
    if (committed.front().size() != pattern.size()) die("threads of a warpgroup with another number of products");
    for (size_t k = 0; k < pattern.size(); ++k) {
      if (!isSame(committed.front()[k], pattern[k])) die("threads of a warpgroup that multiply different things");
      group[k * kGroup + i] = committed.front()[k];
    }
    committed.pop_front();
  }
  g.committed.push_back(std::move(group));
}

bool areLegal(Element element, int columns) {
  return columns % 8 == 0 && columns >= 8 && columns <= kMostColumns && (element != Element::Int8 || columns <= 24 || columns % 16 == 0);
}

}  // namespace

void forgetProducts() {
  threadsOfBlock = position.blockSize.x, groupsOfBlock = (threadsOfBlock + kGroup - 1) / kGroup;
  threads.assign(blocksAtOnce() * threadsOfBlock, {});
  warpgroups.assign(blocksAtOnce() * groupsOfBlock, {});
}

void leaveProducts() {
  if (!threadAtHand().open.empty() || threadAtHand().commits > warpgroupAtHand().performed) die("the end of a kernel before that of its products");
}

void fenceProducts() { threadAtHand().fenced = true; }

void multiply(const Product& p) {
  Thread& t = threadAtHand();
  if (!t.fenced) die("a product without a fence");
  if (!areLegal(p.element, p.columns)) die("a product of a shape that there is not");
  if (p.alongRows && p.element != Element::Bf16) die("a product along rows of bytes");
  t.open.push_back(p);
}

void commitProducts() {
  __syncwarp();
  Thread& t = threadAtHand();
  Warpgroup& g = warpgroupAtHand();
  t.committed.push_back(std::move(t.open));
  t.open.clear();
  const size_t place = t.committed.size() - 1;
  ++t.commits;
  if (place == g.arrived.size()) g.arrived.push_back(0);
  if (++g.arrived[place] < kGroup) return;
  g.arrived.pop_front();
  gather(g);
  if (schedule.eagerCopies) ask(g);
  else performOldest(g);
}

// Registers may be touched behind a wait, so the next product needs a fence. (The manual lets sums do without that nobody touches.)
void waitProducts(int pending) {
  __syncwarp();
  Thread& t = threadAtHand();
  Warpgroup& g = warpgroupAtHand();
  t.fenced = false;
  while (t.commits > g.performed + static_cast<uint64_t>(pending)) {
    g.wanted = std::max(g.wanted, t.commits - static_cast<uint64_t>(pending));
    ask(g);
    suspend(g.performed, {"products"});
  }
}

}  // namespace emulator
