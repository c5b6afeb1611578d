// Sessions on a small random package: order of steps, determinism, abandonment, switches, checkpoints, memory.
#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "harness.h"
#include "longlive/engine.h"
#include "synthetic_package.h"

using namespace longlive;
using longlive::test::SyntheticPackage;

// Every allocation of the process through operator new, while counting is on.
static std::atomic<bool> counting{false};
static std::atomic<int64_t> allocations{0};

static void* counted(size_t size, size_t alignment) {
  if (counting) ++allocations;
  void* p = alignment <= alignof(std::max_align_t) ? std::malloc(size ? size : 1) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!p) throw std::bad_alloc();
  return p;
}
void* operator new(size_t size) { return counted(size, 1); }
void* operator new[](size_t size) { return counted(size, 1); }
void* operator new(size_t size, std::align_val_t a) { return counted(size, static_cast<size_t>(a)); }
void* operator new[](size_t size, std::align_val_t a) { return counted(size, static_cast<size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

using Bytes = std::vector<uint8_t>;

std::shared_ptr<Model> load(const SyntheticPackage& package, Precision precision = Precision::FP32, int threads = 1) {
  LoadOptions o;
  o.directory = package.directory, o.precision = precision, o.threads = threads;
  return Model::load(o);
}

std::shared_ptr<const Prompt> prompt(Model& m, std::vector<int32_t> ids) { return m.encodePrompt(ids); }

SessionOptions options(uint64_t seed, int64_t width = 64, int64_t height = 48) {
  SessionOptions o;
  o.seed = seed, o.width = width, o.height = height;
  return o;
}

// Runs one block and returns its frames.
Bytes block(Session& s) {
  Bytes frames;
  for (;;) {
    const Step step = s.step();
    if (step.kind == Step::Kind::Frames) frames.assign(step.frames.i420.begin(), step.frames.i420.end());
    if (step.kind == Step::Kind::Context) return frames;
  }
}

Bytes blocks(Session& s, int count) {
  Bytes all;
  for (int i = 0; i < count; ++i) {
    const Bytes b = block(s);
    all.insert(all.end(), b.begin(), b.end());
  }
  return all;
}

double meanDifference(const Bytes& a, const Bytes& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

std::string refusal(const std::function<void()>& f, ErrorCode code = ErrorCode::InvalidArgument) {
  try {
    f();
    return "";
  } catch (const Error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST("session: steps come in order, and frames are counted from the first") {
  const SyntheticPackage package("order");
  const auto model = load(package);
  const auto s = model->createSession(options(1));
  CHECK(has(refusal([&] { s->step(); }), "setPrompt"));
  s->setPrompt(*prompt(*model, {3, 4, 1}), RecacheMode::Recache);
  int64_t frames = 0;
  for (int64_t b = 0; b < 4; ++b) {
    for (int64_t i = 0; i < 4; ++i) {
      const Step step = s->step();
      CHECK(step.kind == Step::Kind::Denoise && step.block == b && step.step == i);
    }
    const Step step = s->step();
    CHECK(step.kind == Step::Kind::Frames && step.frames.firstFrame == frames && step.frames.count == (b == 0 ? 5 : 8));
    CHECK(step.frames.i420.size() == static_cast<size_t>(step.frames.count * 64 * 48 * 3 / 2));
    CHECK(s->lastRgb().size() == static_cast<size_t>(step.frames.count * 64 * 48 * 3));
    frames += step.frames.count;
    CHECK(has(refusal([&] { s->abandonBlock(); }), "too late"));
    CHECK(has(refusal([&] { s->checkpoint(); }), "between blocks"));
    CHECK(s->step().kind == Step::Kind::Context && s->block() == b + 1);
  }
}

TEST("session: texts are encoded beside a session's steps, and neither changes the other's bits") {
  const SyntheticPackage package("texts");
  const std::vector<int32_t> text = {7, 8, 9, 1};
  for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
    for (int threads : {1, 3}) {
      const auto model = load(package, p, threads);
      const std::vector<float> embeddings = prompt(*model, text)->embeddings;
      const auto run = [&] {
        const auto s = model->createSession(options(4));
        s->setPrompt(*prompt(*model, {3, 4, 1}), RecacheMode::Recache);
        const Bytes first = blocks(*s, 3);
        s->setPrompt(*prompt(*model, {5, 1}), RecacheMode::Recache);
        Bytes all = blocks(*s, 3);
        all.insert(all.end(), first.begin(), first.end());
        return all;
      };
      const Bytes want = run();
      std::atomic<bool> finished = false;
      int texts = 0, wrong = 0;
      std::thread reader([&] {
        for (; !finished || texts == 0; ++texts) wrong += prompt(*model, text)->embeddings != embeddings;
      });
      CHECK(run() == want);
      finished = true;
      reader.join();
      CHECK(texts > 0 && wrong == 0);
    }
  }
}

TEST("session: the same request gives the same bits, whatever the threads") {
  const SyntheticPackage package("bits");
  for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
    const auto run = [&](uint64_t seed, int threads) {
      const auto model = load(package, p, threads);
      const auto s = model->createSession(options(seed));
      s->setPrompt(*prompt(*model, {3, 4, 1}), RecacheMode::Recache);
      Bytes all = blocks(*s, 4);
      s->setPrompt(*prompt(*model, {9, 8, 7, 1}), RecacheMode::Recache);
      const Bytes more = blocks(*s, 2);
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    const Bytes first = run(5, 1);
    CHECK(first == run(5, 1));
    CHECK(first == run(5, 2));
    CHECK(first != run(6, 1));
  }
}

TEST("session: an abandoned block restarts exactly") {
  for (RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
    // With a sink above the block, rows that were never written are seen: they must read as before.
    for (int64_t sink : {int64_t{1}, int64_t{3}}) {
      const SyntheticPackage package("abandon", [&](ModelConfig& c) { c.sampling.rope = rope, c.sampling.sinkFrames = sink; });
      const auto model = load(package);
      const auto run = [&](bool abandon) {
        const auto s = model->createSession(options(1));
        s->setPrompt(*prompt(*model, {3, 4, 1}), RecacheMode::Recache);
        Bytes all;
        for (int b = 0; b < 6; ++b) {
          if (abandon) {
            for (int i = 0; i < 1 + b % 4; ++i) s->step();
            s->abandonBlock();
            s->abandonBlock();
          }
          if (b == 1 || b == 4) s->setPrompt(*prompt(*model, {b, 8, 7, 1}), b == 1 ? RecacheMode::Keep : RecacheMode::Recache);
          const Bytes more = block(*s);
          all.insert(all.end(), more.begin(), more.end());
        }
        return all;
      };
      CHECK(run(true) == run(false));
    }
  }
}

TEST("session: prompts change only between blocks, and change the picture") {
  const SyntheticPackage package("switch");
  const auto model = load(package);
  const auto a = prompt(*model, {3, 4, 1}), b = prompt(*model, {30, 20, 10, 1});
  const auto after = [&](std::optional<RecacheMode> mode, int64_t* frames = nullptr) {
    const auto s = model->createSession(options(1));
    s->setPrompt(*a, RecacheMode::Recache);
    blocks(*s, 5);
    if (mode) {
      const PromptChange c = s->setPrompt(*b, *mode);
      if (frames) *frames = c.frames;
    }
    return block(*s);
  };
  int64_t recached = 0, kept = -1, cleared = -1;
  const Bytes none = after(std::nullopt), recache = after(RecacheMode::Recache, &recached), keep = after(RecacheMode::Keep, &kept);
  CHECK(none != recache && recache != keep && none != keep);
  after(RecacheMode::Clear, &cleared);
  CHECK(recached == 5 && kept == 0 && cleared == 0);  // window 6, one of them is the sink, which stays

  const auto s = model->createSession(options(1));
  s->setPrompt(*a, RecacheMode::Recache);
  s->step();
  CHECK(has(refusal([&] { s->setPrompt(*b, RecacheMode::Keep); }), "abandonBlock"));
}

TEST("session: a checkpoint goes on smoothly, and before the window is full exactly as a recache would") {
  for (bool globalSink : {true, false}) {
    const SyntheticPackage package("checkpoint", [&](ModelConfig& c) { c.sampling.globalSink = globalSink; });
    const auto model = load(package);
    const auto text = prompt(*model, {3, 4, 1});
    const auto unrelated = [&](int done) {
      const auto s = model->createSession(options(10));
      s->setPrompt(*text, RecacheMode::Recache);
      blocks(*s, done);
      return block(*s);
    };
    for (int done : {0, 1, 3, 7}) {
      const auto s = model->createSession(options(9));
      s->setPrompt(*text, RecacheMode::Recache);
      blocks(*s, done);
      const Bytes saved = s->checkpoint();
      const auto restored = model->restoreSession(options(9), saved, *text);
      CHECK(restored->block() == done);
      const auto other = model->restoreSession(options(9), saved, *text);
      s->setPrompt(*text, RecacheMode::Recache);
      const Bytes want = block(*s), got = block(*restored);
      CHECK(want.size() == got.size());
      CHECK(got == block(*other));
      if (done <= 3) CHECK(want == got);
      // Random weights damp nothing; a trained model forgets the difference sooner.
      else CHECK(meanDifference(want, got) < 0.75 * meanDifference(want, unrelated(done)));
      CHECK(restored->checkpoint().size() == s->checkpoint().size());
    }
    const auto s = model->createSession(options(9));
    s->setPrompt(*text, RecacheMode::Recache);
    blocks(*s, 3);
    s->setPrompt(*text, RecacheMode::Clear);
    const Bytes saved = s->checkpoint();
    const auto restored = model->restoreSession(options(9), saved, *text);
    const Bytes frames = block(*restored);
    CHECK(frames.size() == block(*s).size());

    // Damage and misuse.
    CHECK(!refusal([&] { model->restoreSession(options(9), Bytes(saved.begin(), saved.end() - 4), *text); }, ErrorCode::InvalidPackage).empty());
    CHECK(has(refusal([&] { model->restoreSession(options(9, 96, 48), saved, *text); }), "size"));
    CHECK(!refusal([&] { model->restoreSession(options(9), Bytes{1, 2, 3}, *text); }, ErrorCode::InvalidPackage).empty());
  }
}

TEST("session: no allocation per block in steady state") {
  for (Precision p : {Precision::FP32, Precision::BF16, Precision::INT8}) {
    for (RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
      const SyntheticPackage package("memory", [&](ModelConfig& c) { c.sampling.rope = rope; });
      const auto model = load(package, p, 2);
      const auto text = prompt(*model, {3, 4, 1});
      const auto s = model->createSession(options(1));
      s->setPrompt(*text, RecacheMode::Recache);
      const auto run = [&](int count) {
        for (int i = 0; i < count * 6; ++i) s->step();
      };
      run(5);
      s->setPrompt(*text, RecacheMode::Recache);
      const size_t before = s->memoryBytes();
      allocations = 0, counting = true;
      run(6);
      s->setPrompt(*text, RecacheMode::Recache);
      run(1);
      counting = false;
      CHECK(allocations == 0);
      CHECK(s->memoryBytes() == before);
    }
  }
}

TEST("session: absolute positions end with a clear message, a clear starts anew, relative ones go on") {
  const SyntheticPackage package("endless", [](ModelConfig& c) { c.dit.ropeTableLength = 8; });
  const auto model = load(package);
  const auto text = prompt(*model, {3, 4, 1});
  const auto s = model->createSession(options(1));
  s->setPrompt(*text, RecacheMode::Recache);
  blocks(*s, 4);
  CHECK(has(refusal([&] { s->step(); }), "latent frame 8"));
  s->setPrompt(*text, RecacheMode::Clear);
  blocks(*s, 4);
  CHECK(s->block() == 8);
  SessionOptions relative = options(1);
  relative.rope = RopeMode::Relative;
  const auto endless = model->createSession(relative);
  endless->setPrompt(*text, RecacheMode::Recache);
  blocks(*endless, 12);
  CHECK(endless->block() == 12);
}

TEST("session: global attention is a window of 21 frames") {
  const SyntheticPackage package("global", [](ModelConfig& c) { c.sampling.windowFrames = -1, c.sampling.sinkFrames = 0; });
  const auto model = load(package);
  const auto s = model->createSession(options(1, 16, 16));
  s->setPrompt(*prompt(*model, {3, 1}), RecacheMode::Recache);
  blocks(*s, 12);
  CHECK(s->setPrompt(*prompt(*model, {4, 1}), RecacheMode::Recache).frames == 21);
}

TEST("session: bad requests are refused") {
  const SyntheticPackage package("bad");
  const auto model = load(package);
  CHECK(has(refusal([&] { model->createSession(options(1, 20, 48)); }), "multiples of 16"));
  CHECK(has(refusal([&] { model->createSession(options(1, 0, 48)); }), "multiples of 16"));
  CHECK(has(refusal([&] { prompt(*model, {}); }), "at least one token"));
  CHECK(has(refusal([&] { prompt(*model, {40}); }), "vocabulary"));
  CHECK(has(refusal([&] { prompt(*model, {-1}); }), "vocabulary"));
  CHECK(has(refusal([&] { prompt(*model, std::vector<int32_t>(13, 1)); }), "12 tokens"));
  CHECK(prompt(*model, std::vector<int32_t>(12, 1))->tokens == 12);
  LoadOptions tiny;
  tiny.directory = package.directory, tiny.tinyDecoder = true;
  CHECK(has(refusal([&] { Model::load(tiny); }), "no tiny decoder"));
  LoadOptions cuda;
  cuda.directory = package.directory, cuda.device = DeviceKind::Cuda;
  CHECK(!refusal([&] { Model::load(cuda); }, ErrorCode::Unavailable).empty());
}

TEST("session: odd sizes run, and instruction sets agree in fp32") {
  const SyntheticPackage package("odd", [](ModelConfig& c) {
    c.dit.dim = 42, c.dit.numHeads = 3, c.dit.ffnDim = 70, c.dit.freqDim = 22, c.dit.textDim = 22, c.dit.textLen = 7, c.dit.numLayers = 3;
    c.textEncoder = {17, 22, 30, 26, 5, 1, 32, 128, 1e-6f};
    c.sampling.windowFrames = 7, c.sampling.sinkFrames = 4, c.sampling.framesPerBlock = 3, c.sampling.denoisingSteps = {1000, 400};
  });
  const auto run = [&](const std::string& isa) {
    LoadOptions o;
    o.directory = package.directory, o.precision = Precision::FP32, o.threads = 2, o.isa = isa;
    const auto model = Model::load(o);
    const auto s = model->createSession(options(3, 80, 48));
    s->setPrompt(*prompt(*model, {3, 4, 1}), RecacheMode::Recache);
    Bytes all = blocks(*s, 4);
    s->setPrompt(*prompt(*model, {5, 6, 7, 8, 9, 10, 1}), RecacheMode::Recache);
    const Bytes more = blocks(*s, 2);
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  CHECK(meanDifference(run("portable"), run("")) < 0.1);
}
