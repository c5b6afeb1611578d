// The addon's thread without JavaScript: order, what is let go, stopping in the middle.
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "harness.h"
#include "jobs.h"

using longlive::addon::CallThread;
using longlive::test::post;

namespace {

// Says on which thread it was let go.
struct Let {
  explicit Let(std::promise<std::thread::id>& p) : where(p) {}
  ~Let() { where.set_value(std::this_thread::get_id()); }
  std::promise<std::thread::id>& where;
};

}  // namespace

TEST("call thread: jobs run in order, and what is discarded goes before those that wait") {
  CallThread thread;
  std::promise<void> begin;
  std::promise<std::thread::id> let;
  std::vector<int> order;
  post(thread, [&, go = begin.get_future().share()](bool) { go.wait(); });
  for (int i = 0; i < 100; ++i) post(thread, [&order, i](bool cancelled) { order.push_back(cancelled ? -1 : i); });
  thread.discard(std::make_shared<Let>(let));
  begin.set_value();
  CHECK(let.get_future().get() != std::this_thread::get_id());
  std::promise<void> done;
  post(thread, [&](bool) { done.set_value(); });
  done.get_future().wait();
  CHECK(order.size() == 100 && order.front() == 0 && order.back() == 99);
}

TEST("call thread: what was told to stop finishes its job, cancels the others, and waits for nobody") {
  for (int round = 0; round < 50; ++round) {
    std::promise<void> begun, begin;
    std::atomic<int> ran{0}, cancelled{0};
    std::promise<std::thread::id> let;
    auto thread = std::make_unique<CallThread>();
    post(*thread, [&, go = begin.get_future().share()](bool) { begun.set_value(), go.wait(), ++ran; });
    begun.get_future().wait();
    for (int i = 0; i < 10; ++i) post(*thread, [&](bool c) { ++(c ? cancelled : ran); });
    thread->discard(std::make_shared<Let>(let));
    thread->stop();
    CHECK(!thread->ended());
    CHECK(!post(*thread, [](bool) {}));
    begin.set_value();
    thread.reset();
    CHECK(ran == 1 && cancelled == 10);
    CHECK(let.get_future().get() != std::this_thread::get_id());
  }
}

TEST("call thread: many threads may post while it ends") {
  for (int round = 0; round < 20; ++round) {
    CallThread thread;
    std::atomic<int> settled{0}, posted{0};
    std::vector<std::thread> posters;
    for (int p = 0; p < 4; ++p) {
      posters.emplace_back([&] {
        for (int i = 0; i < 50; ++i) {
          if (post(thread, [&](bool) { ++settled; })) ++posted;
          thread.discard(std::make_shared<int>(i));
        }
      });
    }
    thread.stop();
    for (auto& p : posters) p.join();
    thread.end();
    CHECK(settled == posted && thread.ended());
  }
}
