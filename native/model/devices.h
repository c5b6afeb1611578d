// The devices that models run on: the only place of the model that names them.
#pragma once

#include <memory>

#include "longlive/engine.h"
#include "ops/backend_memory.h"

namespace longlive {

// Throws Error{Unavailable} for a device that is not there, Error{InvalidArgument} for one that cannot be, and for arithmetic that it has not.
std::unique_ptr<Backend> makeBackend(const LoadOptions& options);

// What such a device's backend takes; the device need not be there. Throws Error{InvalidArgument} for arithmetic that it has not.
std::unique_ptr<BackendMemory> backendMemory(const LoadOptions& options);

}  // namespace longlive
