// What lies between two prompts: of a transition, which goes from one to the other over several blocks.
#pragma once

#include "longlive/engine.h"

namespace longlive {

// The prompt `share` of the way (0 to 1) from one to the other, row by row (families-wan21 F.1 and F.2), in float32:
//
//   Linear   (1 - t) a + t b
//   Slerp    sin((1 - t) w) / sin w a + sin(t w) / sin w b,  w the angle between the rows a and b; Linear where all are nearly parallel
//
// Rows behind the end of a prompt are zeros. textLen and textDim are the model's: 512 x 4096 for Wan 2.1.
Prompt blend(const Prompt& from, const Prompt& to, double share, BlendKind kind, int64_t textLen, int64_t textDim);

// Whether they are the same but for rounding, by the distance of the whole: between those there is no arc (F.2: nothing happens).
bool areSame(const Prompt& a, const Prompt& b);

}  // namespace longlive
