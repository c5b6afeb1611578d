// Sessions on a small random package: order of steps, determinism, abandonment, switches, checkpoints, memory.
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <thread>
#include <utility>

#include "allocations.h"
#include "harness.h"
#include "longlive/engine.h"
#include "synthetic_package.h"

using namespace longlive;
using longlive::test::SyntheticPackage;

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

TEST("session: prompts are blended from one to the other, and the ends are the prompts themselves") {
  const SyntheticPackage package("blend");
  const auto model = load(package);
  const auto a = prompt(*model, {3, 4, 1}), b = prompt(*model, {9, 8, 7, 6, 1});
  for (BlendKind kind : {BlendKind::Linear, BlendKind::Slerp}) {
    const auto half = model->blendPrompts(*a, *b, 0.5, kind);
    CHECK(half->tokens == 5 && half->embeddings.size() == b->embeddings.size());
    const auto start = model->blendPrompts(*a, *b, 0, kind), end = model->blendPrompts(*a, *b, 1, kind);
    float off = 0;
    for (size_t i = 0; i < b->embeddings.size(); ++i) {
      off = std::max(off, std::abs(end->embeddings[i] - b->embeddings[i]));
      off = std::max(off, std::abs(start->embeddings[i] - (i < a->embeddings.size() ? a->embeddings[i] : 0)));
    }
    CHECK(off < 1e-5f);
    // Between one text and itself there is no arc.
    CHECK(model->blendPrompts(*a, *a, 0.25, kind)->embeddings == a->embeddings);

    const auto s = model->createSession(options(1));
    s->setPrompt(*a, RecacheMode::Recache);
    blocks(*s, 2);
    CHECK(s->setPrompt(*half, RecacheMode::Recache).frames > 0);
    blocks(*s, 1);
  }
  CHECK(has(refusal([&] { model->blendPrompts(*a, *b, 1.5, BlendKind::Linear); }), "between 0 and 1"));
  CHECK(has(refusal([&] { model->blendPrompts(*a, *b, std::nan(""), BlendKind::Linear); }), "between 0 and 1"));
  Prompt foreign = *b;
  foreign.embeddings.pop_back();
  CHECK(has(refusal([&] { model->blendPrompts(*a, foreign, 0.5, BlendKind::Linear); }), "another model"));
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

    // A clear forgets the sink as well, also one that a recache had moved.
    blocks(*s, 6);
    s->setPrompt(*text, RecacheMode::Recache);
    s->setPrompt(*text, RecacheMode::Clear);
    CHECK(model->restoreSession(options(9), s->checkpoint(), *text)->block() == s->block());

    // Damage and misuse.
    CHECK(!refusal([&] { model->restoreSession(options(9), Bytes(saved.begin(), saved.end() - 4), *text); }, ErrorCode::InvalidPackage).empty());
    CHECK(has(refusal([&] { model->restoreSession(options(9, 96, 48), saved, *text); }), "size"));
    CHECK(!refusal([&] { model->restoreSession(options(9), Bytes{1, 2, 3}, *text); }, ErrorCode::InvalidPackage).empty());
  }
}

TEST("session: a checkpoint whose counters no session has is refused, and the model is as well as before") {
  for (RopeMode rope : {RopeMode::Absolute, RopeMode::Relative}) {
    const SyntheticPackage package("counters", [&](ModelConfig& c) { c.sampling.rope = rope, c.dit.ropeTableLength = 16; });
    const auto model = load(package);
    const auto text = prompt(*model, {3, 4, 1});
    const auto s = model->createSession(options(9));
    s->setPrompt(*text, RecacheMode::Recache);
    blocks(*s, 4);
    const Bytes saved = s->checkpoint();
    const Bytes want = block(*model->restoreSession(options(9), saved, *text));
    // The same latents under other counters: block, frame, origin, start of the sink.
    const SafeTensors file = SafeTensors::parse(saved, "saved");
    const auto with = [&](std::map<std::string, std::string> counters) {
      std::map<std::string, std::string> metadata = file.metadata();
      for (auto& [key, value] : counters) metadata[key] = value;
      return writeSafeTensors(file.entries(), metadata);
    };
    const auto refused = [&](std::map<std::string, std::string> counters, ErrorCode code = ErrorCode::InvalidArgument) {
      const std::string message = refusal([&] { model->restoreSession(options(9), with(counters), *text); }, code);
      CHECK(has(message, "checkpoint"));
      return message;
    };
    refused({{"sinkStart", "8"}});
    refused({{"sinkStart", "99999999999999999"}});
    refused({{"origin", "10"}});
    refused({{"origin", "7"}});
    refused({{"block", "5"}});
    refused({{"block", "5"}, {"frame", "9"}});
    refused({{"block", "4294967296"}, {"frame", "8589934592"}});
    for (const char* bad : {"-1", "1.5", "", "1e3", "999999999999999999999", "0x8", " 8", "nan"}) {
      for (const char* key : {"block", "frame", "origin", "sinkStart"}) refused({{key, bad}}, ErrorCode::InvalidPackage);
    }
    for (const char* bad : {"", "-9", "+9", "09", "9.0", "9 ", "0x9", "seed", "18446744073709551616", "99999999999999999999999999"}) {
      CHECK(has(refused({{"seed", bad}}, ErrorCode::InvalidPackage), "\"seed\""));
    }
    for (const char* other : {"8", "18446744073709551615"}) CHECK(has(refused({{"seed", other}}), "seed " + std::string(other)));
    if (rope == RopeMode::Absolute) {
      CHECK(has(refused({{"block", "9"}, {"frame", "18"}}), "positions end at latent frame 16"));
      CHECK(has(refused({{"block", "4000000000"}, {"frame", "8000000000"}}), "positions end"));
      refused({{"block", "9"}, {"frame", "18"}, {"sinkStart", "16"}});
    } else {
      CHECK(model->restoreSession(options(9), with({{"block", "4000000000"}, {"frame", "8000000000"}}), *text)->block() == 4000000000);
    }
    // Latents that are none.
    std::vector<SafeTensors::Entry> entries = file.entries();
    for (auto& e : entries) {
      std::vector<uint8_t> bytes(static_cast<const uint8_t*>(e.tensor.data), static_cast<const uint8_t*>(e.tensor.data) + e.tensor.bytes());
      const float bad = std::nanf("");
      std::memcpy(bytes.data() + bytes.size() / 8 * 4, &bad, 4);
      const Tensor before = std::exchange(e.tensor, Tensor{bytes.data(), e.tensor.dtype, e.tensor.shape});
      CHECK(has(refusal([&] { model->restoreSession(options(9), writeSafeTensors(entries, file.metadata()), *text); }, ErrorCode::InvalidPackage), "NaN"));
      e.tensor = before, e.tensor.dtype = DType::I32;
      CHECK(has(refusal([&] { model->restoreSession(options(9), writeSafeTensors(entries, file.metadata()), *text); }, ErrorCode::InvalidPackage), "I32"));
      e.tensor = before, e.tensor.shape = {before.elements()};
      CHECK(has(refusal([&] { model->restoreSession(options(9), writeSafeTensors(entries, file.metadata()), *text); }), "size"));
      e.tensor = before;
    }
    CHECK(block(*model->restoreSession(options(9), saved, *text)) == want);
  }
}

TEST("session: a text of another model is refused, whatever its shape") {
  const SyntheticPackage package("own"), other("foreign", [](ModelConfig& c) { c.dit.textDim = c.textEncoder.dim = 48, c.dit.textLen = 64; });
  const auto model = load(package), foreign = load(other);
  const auto s = model->createSession(options(1));
  for (size_t tokens : {1, 12, 64}) {
    const auto text = prompt(*foreign, std::vector<int32_t>(tokens, 1));
    CHECK(has(refusal([&] { s->setPrompt(*text, RecacheMode::Recache); }), "another model"));
  }
  s->setPrompt(*prompt(*model, {3, 1}), RecacheMode::Recache);
  CHECK(!block(*s).empty());
}

// Every allocation of a session's life is made to fail in turn, on whatever thread it is: the call says so, the session is
// lost, the model goes on.
TEST("session: where memory ends the call fails, and the model is well") {
  const SyntheticPackage package("short");
  for (int threads : {1, 3}) {
    const auto model = load(package, Precision::BF16, threads);
    const auto text = prompt(*model, {3, 4, 1});
    const auto life = [&](Bytes* saved) {
      const auto s = model->createSession(options(4));
      s->setPrompt(*text, RecacheMode::Recache);
      const Bytes frames = block(*s);
      *saved = s->checkpoint();
      return frames;
    };
    Bytes checkpoint;
    const Bytes want = life(&checkpoint);
    for (int64_t n = 0, step = 1;; n += step, step = n < 64 ? 1 : n / 8) {
      Bytes got, unused;
      test::FailingAllocation shortage(n);
      try {
        got = life(&unused);
      } catch (const std::bad_alloc&) {
      } catch (const Error& e) {
        CHECK(e.code() == ErrorCode::OutOfMemory);
      }
      if (!shortage.met()) break;  // it lives on fewer
      CHECK(got.empty() || got == want);
    }
    for (int64_t n = 0, step = 1;; n += step, step = n < 64 ? 1 : n / 8) {
      test::FailingAllocation shortage(n);
      try {
        model->restoreSession(options(4), checkpoint, *text);
      } catch (const std::bad_alloc&) {
      } catch (const Error& e) {
        CHECK(e.code() == ErrorCode::OutOfMemory);
      }
      if (!shortage.met()) break;
    }
    CHECK(life(&checkpoint) == want);
  }
}

TEST("session: after a call that failed it is lost, and says so") {
  const SyntheticPackage package("lost");
  const auto model = load(package);
  const auto s = model->createSession(options(1));
  s->setPrompt(*prompt(*model, {3, 4, 1}), RecacheMode::Recache);
  blocks(*s, 2);
  const Bytes saved = s->checkpoint();
  {
    test::FailingAllocation shortage(0);
    CHECK_THROWS(s->checkpoint(), std::bad_alloc);
  }
  for (const auto& call : std::initializer_list<std::function<void()>>{[&] { s->step(); }, [&] { s->checkpoint(); }, [&] { s->abandonBlock(); }, [&] { s->lastRgb(); }}) {
    CHECK(has(refusal(call, ErrorCode::OutOfMemory), "last checkpoint"));
  }
  CHECK(model->restoreSession(options(1), saved, *prompt(*model, {3, 1}))->block() == 2);
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
      const int64_t allocated = test::allocations;
      run(6);
      s->setPrompt(*text, RecacheMode::Recache);
      run(1);
      CHECK(test::allocations == allocated);
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
  blocks(*s, 3);
  CHECK(!s->ended());
  blocks(*s, 1);
  CHECK(s->ended());
  CHECK(has(refusal([&] { s->step(); }), "latent frame 8"));
  s->setPrompt(*text, RecacheMode::Clear);
  CHECK(!s->ended());
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
