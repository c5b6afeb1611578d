// libFuzzer: bytes as a checkpoint of a small model. Refused, or restored to a session that makes a block; the model is as well
// as before, which is looked at now and then.
#include "../synthetic_package.h"
#include "longlive/engine.h"
#include "target.h"

using namespace longlive;

namespace {

struct Small {
  test::SyntheticPackage package{"fuzz", [](ModelConfig& c) {
    c.dit.numLayers = 1, c.dit.ropeTableLength = 16;
    c.sampling.windowFrames = 4, c.sampling.denoisingSteps = {1000};
  }};
  std::shared_ptr<Model> model = [this] {
    LoadOptions o;
    o.directory = package.directory, o.precision = Precision::FP32, o.threads = 1;
    return Model::load(o);
  }();
  std::shared_ptr<const Prompt> text = model->encodePrompt(std::vector<int32_t>{3, 1});
};

SessionOptions options() {
  SessionOptions o;
  o.seed = 1, o.width = o.height = 16;
  return o;
}

void block(Session& session) {
  while (session.step().kind != Step::Kind::Context) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Small small;
  fuzz::refusedOr({ErrorCode::InvalidPackage, ErrorCode::InvalidArgument}, [&] {
    const auto session = small.model->restoreSession(options(), {data, size}, *small.text);
    fuzz::refusedOr({ErrorCode::InvalidArgument}, [&] { block(*session); });
  });
  static int runs = 0;
  if (++runs % 256 == 0) {
    const auto session = small.model->createSession(options());
    session->setPrompt(*small.text, RecacheMode::Recache);
    block(*session);
  }
  return 0;
}
