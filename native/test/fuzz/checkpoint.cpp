// libFuzzer: bytes as a checkpoint of a small model. Refused, or restored to a session that makes a block; the model is as well
// as before, which is looked at now and then.
#include "small.h"
#include "target.h"

using namespace longlive;

namespace {

struct Small {
  test::SyntheticPackage package{"fuzz", fuzz::small};
  std::shared_ptr<Model> model = fuzz::load(package);
  std::shared_ptr<const Prompt> text = model->encodePrompt(fuzz::kText);
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Small small;
  fuzz::refusedOr({ErrorCode::InvalidPackage, ErrorCode::InvalidArgument}, [&] {
    const auto session = small.model->restoreSession(fuzz::session(), {data, size}, *small.text);
    fuzz::refusedOr({ErrorCode::InvalidArgument}, [&] { fuzz::block(*session); });
  });
  static int runs = 0;
  if (++runs % 256 == 0) {
    const auto session = small.model->createSession(fuzz::session());
    session->setPrompt(*small.text, RecacheMode::Recache);
    fuzz::block(*session);
  }
  return 0;
}
