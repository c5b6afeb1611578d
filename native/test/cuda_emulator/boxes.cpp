// The copy engine: boxes of a tensor in global memory into shared memory, swizzled, with zeros for what lies outside.
#include <algorithm>

#include "fibres.h"
#include "hopper.h"

namespace emulator {

namespace {

constexpr unsigned kAxes = 5;

int64_t copied = 0;

// What a CUtensorMap of the emulator holds; the innermost axis is dense.
struct Map {
  const unsigned char* data;
  uint64_t size[kAxes], stride[kAxes];  // in elements; in bytes
  uint16_t box[kAxes];
  uint8_t axes, elementBytes, swizzle;
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

int bytesOf(CUtensorMapDataType type) { return type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 0; }

// Bytes after which the pattern of a swizzle leaves the row; 0: there is none.
uint64_t spanOf(unsigned swizzle) { return swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << swizzle; }

// What the driver demands of a map without interleaving.
bool isLegal(const CUtensorMap* map, int elementBytes, unsigned axes, const void* data, const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* boxes,
             const cuuint32_t* steps, CUtensorMapSwizzle swizzle) {
  const auto aligned = [](const void* p, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; };
  if (!aligned(map, 64) || !data || !aligned(data, 16) || elementBytes == 0 || axes < 1 || axes > kAxes) return false;
  for (unsigned i = 0; i < axes; ++i)
    if (sizes[i] == 0 || sizes[i] > uint64_t{1} << 32 || boxes[i] == 0 || boxes[i] > 256 || steps[i] < 1 || steps[i] > 8) return false;
  for (unsigned i = 0; i + 1 < axes; ++i)
    if (strides[i] % 16 || strides[i] >= uint64_t{1} << 40 || strides[i] < (i == 0 ? sizes[0] * static_cast<uint64_t>(elementBytes) : strides[i - 1])) return false;
  const uint64_t inner = boxes[0] * static_cast<uint64_t>(elementBytes), span = spanOf(swizzle);
  return inner % 16 == 0 && (span == 0 || inner <= span);
}

struct Box {
  Map map;
  int at[kAxes];
  unsigned block;
  size_t to, full;
};

void perform(const Box& b) {
  const Map& m = b.map;
  if (!blockRuns(b.block)) die("a copy into a block that has ended");
  const size_t row = static_cast<size_t>(m.box[0]) * m.elementBytes;
  size_t rows = 1;
  for (unsigned i = 1; i < m.axes; ++i) rows *= m.box[i];
  for (size_t r = 0; r < rows; ++r) {
    const unsigned char* from = m.data;
    bool inside = true;
    size_t left = r;
    for (unsigned i = 1; i < m.axes; ++i) {
      const int64_t x = b.at[i] + static_cast<int64_t>(left % m.box[i]);
      left /= m.box[i];
      inside = inside && x >= 0 && x < static_cast<int64_t>(m.size[i]);
      from += x * static_cast<int64_t>(m.stride[i]);
    }
    for (size_t piece = 0; piece < row; piece += 16) {
      unsigned char* to = sharedAt(b.block, swizzled(b.to + r * row + piece, spanOf(m.swizzle)));
      std::memset(to, 0, 16);
      if (!inside) continue;
      const int64_t first = b.at[0] + static_cast<int64_t>(piece / m.elementBytes), size = static_cast<int64_t>(m.size[0]);
      const int64_t begin = std::max<int64_t>(first, 0), end = std::min<int64_t>(first + 16 / m.elementBytes, size);
      if (begin < end) std::memcpy(to + (begin - first) * m.elementBytes, from + begin * m.elementBytes, static_cast<size_t>((end - begin) * m.elementBytes));
    }
  }
  arriveWithBytes(b.block, b.full, static_cast<int64_t>(rows * row));
  ++copied;
}

void copyBox(void* to, const CUtensorMap* map, const int* at, unsigned axes, uint64_t* full, bool everywhere) {
  Box box{};
  std::memcpy(&box.map, map, sizeof box.map);
  if (box.map.axes != axes) die("a box with another number of axes than its tensor");
  std::memcpy(box.at, at, axes * sizeof *at);
  size_t bytes = box.map.elementBytes;
  for (unsigned i = 0; i < axes; ++i) bytes *= box.map.box[i];
  box.to = sharedOffset(to, bytes), box.full = sharedOffset(full, 8);
  if (box.to % 128) die("a box at an address that is no multiple of 128");
  for (box.block = 0; box.block < blocksAtOnce(); ++box.block) {
    if (!everywhere && box.block != currentBlock()) continue;
    if (schedule.eagerCopies) perform(box);
    else whenStuck([box] { perform(box); });
  }
}

CUresult encodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t axes, void* data, const cuuint64_t* sizes, const cuuint64_t* strides,
                     const cuuint32_t* boxes, const cuuint32_t* steps, CUtensorMapInterleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                     CUtensorMapFloatOOBfill) {
  if (!isLegal(map, bytesOf(type), axes, data, sizes, strides, boxes, steps, swizzle)) return CUDA_ERROR_INVALID_VALUE;
  Map m{};
  m.data = static_cast<const unsigned char*>(data);
  m.axes = static_cast<uint8_t>(axes), m.elementBytes = static_cast<uint8_t>(bytesOf(type)), m.swizzle = static_cast<uint8_t>(swizzle);
  for (unsigned i = 0; i < axes; ++i) {
    if (steps[i] != 1) die("a tensor map with steps");  // not emulated
    m.size[i] = sizes[i], m.box[i] = static_cast<uint16_t>(boxes[i]);
    if (i > 0) m.stride[i] = strides[i - 1];
  }
  std::memcpy(map, &m, sizeof m);
  return CUDA_SUCCESS;
}

}  // namespace

void copyBox(void* to, const CUtensorMap* map, const int (&at)[2], uint64_t* full, bool everywhere) { copyBox(to, map, at, 2, full, everywhere); }
void copyBox(void* to, const CUtensorMap* map, const int (&at)[4], uint64_t* full, bool everywhere) { copyBox(to, map, at, 4, full, everywhere); }

int64_t boxesCopied() { return copied; }

}  // namespace emulator

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(&emulator::encodeTiled) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
