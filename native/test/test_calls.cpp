// A model's two threads as the addon uses them, without JavaScript: calls of sessions on one, texts on the other, errors that cross to
// whoever asked, what is let go in the middle of a call. For ThreadSanitizer above all (scripts/check-sanitizers.sh).
#include <memory>
#include <thread>
#include <vector>

#include "fuzz/small.h"
#include "harness.h"
#include "jobs.h"
#include "longlive/weights.h"

using namespace longlive;
using addon::CallThread;
using test::ask;
using test::SyntheticPackage;

namespace {

using Bytes = std::vector<uint8_t>;
using Text = std::shared_ptr<const Prompt>;
using Film = std::shared_ptr<Session>;

// With a pool, and kernels whose reads and writes a sanitizer sees.
std::shared_ptr<Model> load(const SyntheticPackage& package) { return fuzz::load(package, 3, "portable"); }

Film begin(Model& model, uint64_t seed, const Text& text) {
  Film film = model.createSession(fuzz::session(seed));
  film->setPrompt(*text, RecacheMode::Recache);
  return film;
}

template <class F> ErrorCode failureOf(F&& future) {
  try {
    future.get();
  } catch (const Error& e) {
    return e.code();
  }
  return ErrorCode::Internal;
}

}  // namespace

TEST("calls: films begin, change, are saved, restored and dropped on one thread, while texts are read on another") {
  const SyntheticPackage package("calls", fuzz::small);
  CallThread worker, reader;
  auto model = ask(worker, [&] { return load(package); }).get();
  const auto read = [&](int32_t id) { return ask(reader, [model, id] { return model->encodePrompt(std::vector<int32_t>{id, 4, 1}); }); };
  Text text = read(3).get();
  std::vector<Film> films;
  for (uint64_t seed : {1, 2}) films.push_back(ask(worker, [=] { return begin(*model, seed, text); }).get());
  for (int32_t round = 0; round < 2; ++round) {
    std::vector<std::future<void>> blocks;
    for (const Film& film : films) blocks.push_back(ask(worker, [film] { fuzz::block(*film); }));
    auto next = read(5 + round), refused = read(1 << 20);
    CHECK(failureOf(refused) == ErrorCode::InvalidArgument);
    text = next.get();
    for (auto& made : blocks) made.get();

    const Film& film = films[static_cast<size_t>(round)];
    ask(worker, [=] { film->setPrompt(*text, RecacheMode::Recache); }).get();
    const Bytes saved = ask(worker, [=] { return film->checkpoint(); }).get();
    Bytes damaged = saved;
    damaged[8] ^= 1;
    const auto restore = [&](const Bytes& bytes) { return ask(worker, [=] { return Film(model->restoreSession(fuzz::session(static_cast<uint64_t>(round) + 1), bytes, *text)); }); };
    CHECK(failureOf(restore(damaged)) == ErrorCode::InvalidPackage);
    // One in the middle of its block goes; the one that goes on from where it was saved takes its place.
    auto last = ask(worker, [film] { fuzz::block(*film); });
    Film restored = restore(saved).get();
    worker.discard(std::exchange(films[static_cast<size_t>(round)], std::move(restored)));
    last.get();
  }
  for (Film& film : films) worker.discard(std::move(film));
  worker.discard(std::move(model));
}

TEST("calls: a thread that ends in the middle of a block cancels what waits, and a model goes with whoever is last") {
  const SyntheticPackage package("ends", fuzz::small);
  for (int round = 0; round < 3; ++round) {
    CallThread worker, reader;
    auto model = ask(worker, [&] { return load(package); }).get();
    const Text text = ask(reader, [model] { return model->encodePrompt(std::vector<int32_t>{3, 1}); }).get();
    Film film = ask(worker, [=] { return begin(*model, 1, text); }).get();
    std::vector<std::future<Step::Kind>> steps;
    for (int i = 0; i < 20; ++i) steps.push_back(ask(worker, [film] { return film->step().kind; }));
    auto last = ask(reader, [model] { return model->encodePrompt(std::vector<int32_t>{4, 1}); });
    for (int i = 0; i < 4 * round; ++i) steps[static_cast<size_t>(i)].wait();
    film.reset(), model.reset();
    worker.stop(), reader.stop();
    int made = 0;
    for (auto& step : steps) {
      try {
        step.get(), ++made;
      } catch (const Error& e) {
        CHECK(e.code() == ErrorCode::Cancelled);
      }
    }
    CHECK(made >= 4 * round);
    failureOf(last);
  }
}

TEST("calls: packages are loaded, sound and damaged ones, and weights are added on several threads at once") {
  const SyntheticPackage sound("sound", fuzz::small);
  SyntheticPackage damaged("damaged", fuzz::small);
  Bytes weights = damaged.read("vae.safetensors");
  weights.back() ^= 1;
  damaged.write("vae.safetensors", weights);
  std::vector<float> sums(6, 0.0f);
  std::vector<std::unique_ptr<CallThread>> threads;
  for (int i = 0; i < 4; ++i) threads.push_back(std::make_unique<CallThread>());
  auto one = ask(*threads[0], [&] { return load(sound)->weightBytes(); });
  auto two = ask(*threads[1], [&] { return load(damaged)->weightBytes(); });
  auto three = ask(*threads[2], [&] { return planMemory([&] { LoadOptions o; o.directory = sound.directory; return o; }()).total(); });
  auto four = ask(*threads[3], [&] {
    const std::vector<double> b(2, 2.0);
    const std::vector<float> a(3, 1.5f);
    addProduct(sums, b, a, 1);
  });
  CHECK(one.get() > 0 && three.get() > 0);
  CHECK(failureOf(two) == ErrorCode::InvalidPackage);
  four.get();
  for (float sum : sums) CHECK(sum == 3.0f);
}
