// `OpenH264` of src/engine/addon.ts: encodes pictures on a thread of its own.
#pragma once

#include <napi.h>

#include <memory>

#include "worker.h"

namespace longlive::addon {

// Adds the class to what the addon exports. `retired` outlives the environment's objects.
void exportVideoEncoder(Napi::Env env, Napi::Object exports, std::shared_ptr<Retired>& retired);

}  // namespace longlive::addon
