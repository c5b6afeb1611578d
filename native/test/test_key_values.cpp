// The store of keys and values on the CPU against its definition: the keys and values of the frames that are visible, gathered one behind
// the other, and attention over them.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "harness.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "ops/key_values.h"
#include "probes.h"

using namespace longlive;

namespace {

constexpr int64_t kGridH = 2, kGridW = 3, kTokens = kGridH * kGridW, kHeads = 2, kHeadDim = 16, kWidth = kHeads * kHeadDim;

struct Rows {
  Rows(Backend& b, int64_t n, const std::vector<float>& values = {}) : storage(b.allocate(static_cast<size_t>(n * kWidth) * 4)), tensor{storage->data, DType::F32, {n, kWidth}} {
    if (!values.empty()) b.upload(tensor, values.data());
  }
  std::vector<float> values(Backend& b) const {
    std::vector<float> out(static_cast<size_t>(tensor.elements()));
    b.download(out.data(), tensor);
    return out;
  }
  std::unique_ptr<Storage> storage;
  Tensor tensor;
};

// A video of `steps` blocks through a cache, block by block; the worst difference between the store and the definition over the largest value.
double worst(const KvGeometry& geometry, int64_t block, int64_t steps, RopeMode mode, KvStorage storage) {
  const auto backend = makeCpuBackend({});
  Backend& b = *backend;
  std::mt19937 generator(5);
  std::normal_distribution<float> normal;
  const auto random = [&](int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = normal(generator);
    return v;
  };
  const auto weights = [&] {
    std::vector<float> w = random(kWidth * kWidth);
    for (float& x : w) x /= std::sqrt(static_cast<float>(kWidth));
    return b.prepareLinear(w.data(), nullptr, kWidth, kWidth);
  };
  const auto key = weights(), value = weights();
  Parameters parameters(b);
  const RopeTables tables = makeRopeTables(parameters, kHeadDim, 10000, 128, kGridH, kGridW);
  const Tensor norm = parameters.add(random(kWidth), {kWidth}, DType::F32);
  KvCache cache(geometry, b.makeKeyValues({.frames = geometry.capacity, .frameTokens = kTokens, .width = kWidth, .heads = kHeads, .storage = storage, .rope = mode,
                                           .queryFrames = block, .blockFrames = block, .sinkFrames = geometry.sink, .seenFrames = geometry.attention}));
  const auto positions = [](int64_t first, int64_t count) {
    std::vector<int32_t> at;
    for (int64_t i = 0; i < count; ++i) at.push_back(static_cast<int32_t>(first + i));
    return at;
  };

  std::vector<std::vector<float>> keys(static_cast<size_t>(geometry.capacity)), values(keys.size());  // by frame of the store, unrotated where it is
  double error = 0, largest = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t start = step * block, n = block * kTokens;
    const KvPass pass = cache.begin(start, block);
    const Rows in(b, n, random(n * kWidth)), scratch(b, n), q(b, n, random(n * kWidth)), plainQ(b, n, q.values(b)), k(b, n), v(b, n), out(b, n);
    const auto here = positions(start, block), bySlot = positions(pass.firstSlot, block);
    AppendArgs append;
    append.in = in.tensor, append.key = key.get(), append.value = value.get(), append.norm = {norm, 1e-6f};
    append.rotation = {&tables, here}, append.writes = &pass.writes, append.scratch = scratch.tensor;
    cache.store().append(append);
    AttendArgs attend;
    attend.out = out.tensor, attend.q = q.tensor, attend.norm = {norm, 1e-6f}, attend.visible = &pass.visible, attend.scale = 0.25f;
    attend.rotation = {&tables, here}, attend.slots = bySlot;
    cache.store().attend(attend);

    b.linear(k.tensor, in.tensor, *key), b.linear(v.tensor, in.tensor, *value);
    if (mode == RopeMode::Relative) b.rmsNorm(k.tensor, k.tensor, norm, 1e-6f);
    else b.rmsNormRope(k.tensor, k.tensor, norm, 1e-6f, kHeads, append.rotation);
    for (const FrameRun& run : pass.writes) {
      for (int64_t i = 0; i < run.count; ++i) {
        const auto frame = [&](const Rows& rows) {
          const std::vector<float> all = rows.values(b);
          const auto first = all.begin() + (run.source + i) * kTokens * kWidth;
          return std::vector<float>(first, first + kTokens * kWidth);
        };
        keys[static_cast<size_t>(run.frame + i)] = frame(k), values[static_cast<size_t>(run.frame + i)] = frame(v);
      }
    }
    std::vector<float> seenKeys, seenValues;
    std::vector<int32_t> slots;
    for (const FrameRun& run : pass.visible) {
      for (int64_t i = 0; i < run.count; ++i) {
        const auto add = [&](std::vector<float>& to, std::vector<float> frame) {
          frame.resize(static_cast<size_t>(kTokens * kWidth));  // zeros, where nothing was written yet
          to.insert(to.end(), frame.begin(), frame.end());
        };
        add(seenKeys, keys[static_cast<size_t>(run.frame + i)]), add(seenValues, values[static_cast<size_t>(run.frame + i)]);
        slots.push_back(static_cast<int32_t>(run.slot + i));
      }
    }
    const int64_t seen = static_cast<int64_t>(slots.size()) * kTokens;
    const Rows allKeys(b, seen, seenKeys), allValues(b, seen, seenValues), want(b, n);
    if (mode == RopeMode::Relative) b.rope(allKeys.tensor, allKeys.tensor, kHeads, {&tables, slots});
    b.rmsNormRope(plainQ.tensor, plainQ.tensor, norm, 1e-6f, kHeads, {&tables, mode == RopeMode::Relative ? bySlot : here});
    const KeyRange all{0, seen};
    AttentionArgs a;
    a.out = want.tensor, a.q = plainQ.tensor, a.k = allKeys.tensor, a.v = allValues.tensor, a.visible = {&all, 1}, a.heads = kHeads, a.scale = 0.25f;
    b.attention(a);
    const auto got = out.values(b), expected = want.values(b);
    for (size_t i = 0; i < got.size(); ++i) {
      error = std::max(error, std::abs(static_cast<double>(got[i]) - expected[i]));
      largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    }
  }
  return error / largest;
}

}  // namespace

TEST("key values: blocks of any length, sinks of any size and windows beyond 21 frames are what moving rows would be") {
  for (RopeMode mode : {RopeMode::Absolute, RopeMode::Relative}) {
    CHECK(worst({12, 12, 3}, 3, 9, mode, KvStorage::Full) < 1e-5);
    CHECK(worst({21, 21, 0}, 1, 40, mode, KvStorage::Full) < 1e-5);  // frame by frame
    CHECK(worst({30, 30, 4}, 2, 24, mode, KvStorage::Full) < 1e-5);
    CHECK(worst({15, 12, 3}, 3, 10, mode, KvStorage::Full) < 1e-5);  // a ring that is longer than what is seen
    CHECK(worst({12, 12, 3}, 3, 9, mode, KvStorage::Int8) < 3e-2);
    CHECK(worst({7, 7, 1}, 1, 20, mode, KvStorage::Int8) < 3e-2);
  }
}

TEST("key values: a pass names each frame of the store once, and no other; more runs than fit are said") {
  const auto backend = makeCpuBackend({});
  const auto store = backend->makeKeyValues({1, 6, kTokens, kWidth, kHeads, KvStorage::Full, RopeMode::Absolute, 2});
  const auto refused = [&](const FrameRuns& writes, const FrameRuns& visible) {
    try {
      store->begin(writes, visible, false);
    } catch (const Error& e) {
      return e.code() == ErrorCode::Internal;
    }
    return false;
  };
  const FrameRuns sinkAndRing{{0, 0, 0, 2}, {2, 2, 4, 2}, {4, 4, 2, 2}}, one{{0, 4, 2, 1}};
  CHECK(!refused(one, sinkAndRing));
  CHECK(refused(one, {{0, 0, 0, 2}, {2, 2, 4, 2}, {4, 4, 3, 2}}));  // frame 4 again
  CHECK(refused(one, {{0, 0, 5, 1}, {1, 1, 5, 1}}));                // a bank that repeats a frame
  CHECK(refused({{0, 0, 1, 2}, {2, 2, 2, 1}}, sinkAndRing));        // frame 2 is written twice
  CHECK(refused(one, {{0, 0, 4, 3}}) && refused(one, {{0, 0, -1, 1}}) && refused(one, {{0, 0, 0, 0}}));
  const int64_t most = std::numeric_limits<int64_t>::max();
  CHECK(refused(one, {{0, 0, 1, most}}) && refused(one, {{0, -5, 0, 1}}) && refused(one, {{0, 1'000'000'000, 0, 1}}));
  CHECK(refused({{-1, 0, 0, 1}}, sinkAndRing) && refused({{2, 0, 0, 1}}, sinkAndRing));  // calls have two frames here
  for (float share : {-0.1f, 7.0f, std::nanf("")}) CHECK_THROWS(store->mix(0, 2, 1, share), Error);

  FrameRuns runs;
  for (int64_t i = 0; i < 2 * FrameRuns::kMost; i += 2) runs.add({0, i, i, 1}), runs.add({1, i + 1, i + 1, 1});  // go on with each other
  CHECK(runs.size() == FrameRuns::kMost && runs.frames() == 2 * FrameRuns::kMost);
  CHECK_THROWS(runs.add({0, 20, 30, 1}), Error);
  CHECK(runs.size() == FrameRuns::kMost && RowRanges(runs, 1).all().size() == FrameRuns::kMost);
}

TEST("key values: a store says what it holds, scales of bytes included, and zeroed frames read as zeros") {
  const auto backend = makeCpuBackend({});
  KeyValueLayout layout{2, 6, kTokens, kWidth, kHeads, KvStorage::Full, RopeMode::Absolute, 3};
  const auto bytesOf = [&](KvStorage storage, RopeMode rope) {
    layout.storage = storage, layout.rope = rope;
    const auto store = backend->makeKeyValues(layout);
    return std::pair{static_cast<int64_t>(store->bytes()), static_cast<int64_t>(store->workingBytes())};
  };
  const int64_t rows = 6 * kTokens, elements = rows * kWidth;
  CHECK((bytesOf(KvStorage::Full, RopeMode::Absolute) == std::pair<int64_t, int64_t>{2 * 2 * elements * 4, 0}));
  CHECK((bytesOf(KvStorage::Full, RopeMode::Relative) == std::pair<int64_t, int64_t>{2 * 2 * elements * 4, elements * 4}));
  CHECK((bytesOf(KvStorage::Int8, RopeMode::Absolute) == std::pair<int64_t, int64_t>{2 * 2 * (elements + (rows * kHeads * 4 + 63) / 64 * 64), 2 * elements * 4}));

  layout.storage = KvStorage::Full;
  const auto store = backend->makeKeyValues(layout);
  const Rows ones(*backend, 3 * kTokens, std::vector<float>(static_cast<size_t>(3 * kTokens * kWidth), 1.0f));
  backend->copy(KeyValuesProbe::keys(*store, 1, 2, 3), ones.tensor), backend->copy(KeyValuesProbe::values(*store, 1, 2, 3), ones.tensor);
  store->zero(3, 1);
  for (int64_t frame = 0; frame < 6; ++frame) {
    CHECK(KeyValuesProbe::keys(*store, 1, frame).as<float>()[5] == (frame == 2 || frame == 4 ? 1.0f : 0.0f));
    CHECK(KeyValuesProbe::values(*store, 0, frame).as<float>()[5] == 0.0f);
  }
}

TEST("key values: what a store has not is neither zeroed nor mixed, nor are frames mixed into some of themselves") {
  const auto backend = makeCpuBackend({});
  for (KvStorage storage : {KvStorage::Full, KvStorage::Int8}) {
    const auto store = backend->makeKeyValues({1, 6, kTokens, kWidth, kHeads, storage, RopeMode::Absolute, 2});
    store->zero(0, 6), store->mix(0, 3, 3, 0.5f), store->mix(4, 2, 2, 0.5f);
    CHECK_THROWS(store->zero(-1, 1), Error);
    CHECK_THROWS(store->zero(5, 2), Error);
    CHECK_THROWS(store->zero(0, 0), Error);
    CHECK_THROWS(store->zero(0, INT64_MAX), Error);
    CHECK_THROWS(store->mix(0, 4, 3, 0.5f), Error);
    CHECK_THROWS(store->mix(5, 0, 2, 0.5f), Error);
    CHECK_THROWS(store->mix(-1, 2, 1, 0.5f), Error);
    CHECK_THROWS(store->mix(0, 1, 2, 0.5f), Error);
    CHECK_THROWS(store->mix(1, 1, 1, 0.5f), Error);
  }
}

TEST("key values: frames are mixed from others, with the reference's three roundings in bf16") {
  BackendOptions options;
  for (Precision precision : {Precision::FP32, Precision::BF16}) {
    options.precision = precision;
    const auto backend = makeCpuBackend(options);
    const auto store = backend->makeKeyValues({1, 4, kTokens, kWidth, kHeads, KvStorage::Full, RopeMode::Absolute, 2});
    std::vector<float> first(static_cast<size_t>(kTokens * kWidth), 1.0f), all = first;
    all.resize(2 * first.size(), 2.0f);  // frame 0 is ones, frame 1 twos
    const Rows rows(*backend, 2 * kTokens, all);
    backend->copy(KeyValuesProbe::keys(*store, 0, 0, 2), rows.tensor);
    const auto keyOf = [&](int64_t frame) {
      float x = 0;
      backend->download(&x, {KeyValuesProbe::keys(*store, 0, frame).data, backend->kvType(), {1}});
      return x;
    };
    store->mix(0, 1, 1, 0.25f);
    CHECK(keyOf(0) == 1.25f && keyOf(1) == 2.0f);
    store->mix(3, 1, 1, 1.0f);
    CHECK(keyOf(3) == 2.0f);
    // A sink that fades by a thousandth stays what it is in bf16, and moves in F32.
    for (int i = 0; i < 100; ++i) store->mix(0, 1, 1, 0.001f);
    CHECK(precision == Precision::BF16 ? keyOf(0) == 1.25f : std::abs(keyOf(0) - 1.3214f) < 1e-3f);
  }
}

// What attention of one query per head over a frame alone gives is that frame's mean value.
TEST("key values: rows in 8 bits are mixed as what they stand for, and rounded once more") {
  const auto backend = makeCpuBackend({});
  const auto store = backend->makeKeyValues({1, 4, kTokens, kWidth, kHeads, KvStorage::Int8, RopeMode::Absolute, 2});
  std::mt19937 generator(9);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(2 * kTokens * kWidth));
  for (float& x : values) x = normal(generator);
  const Rows rows(*backend, 2 * kTokens, values), q(*backend, 1), out(*backend, 1);
  const FrameRuns both{{0, 0, 0, 2}}, first{{0, 0, 0, 1}};
  std::vector<float> identity(static_cast<size_t>(kWidth * kWidth));
  for (int64_t i = 0; i < kWidth; ++i) identity[static_cast<size_t>(i * kWidth + i)] = 1.0f;
  const auto same = backend->prepareLinear(identity.data(), nullptr, kWidth, kWidth);
  Parameters parameters(*backend);
  const RopeTables tables = makeRopeTables(parameters, kHeadDim, 10000, 8, kGridH, kGridW);
  const std::vector<int32_t> positions = {0, 1};
  const Rows scratch(*backend, 2 * kTokens);
  AppendArgs a;
  a.in = rows.tensor, a.key = a.value = same.get(), a.norm = {parameters.add(std::vector<float>(kWidth, 1.0f), {kWidth}, DType::F32), 1e-6f};
  a.rotation = {&tables, positions}, a.writes = &both, a.scratch = scratch.tensor;
  store->append(a);
  const float s = 0.25f;
  store->mix(0, 1, 1, s);
  AttendArgs attend;
  attend.out = out.tensor, attend.q = q.tensor, attend.visible = &first;  // logits of zero: all keys alike
  store->attend(attend);
  const std::vector<float> got = out.values(*backend);
  for (int64_t c = 0; c < kWidth; ++c) {
    float want = 0, step = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      const auto at = [&](int64_t frame) { return values[static_cast<size_t>((frame * kTokens + t) * kWidth + c)]; };
      want += ((1 - s) * at(0) + s * at(1)) / static_cast<float>(kTokens);
      step += 4.0f / 127 / static_cast<float>(kTokens);  // no row's largest is above 4
    }
    CHECK(std::abs(got[static_cast<size_t>(c)] - want) < step && std::abs(want) > 0);
  }
}
