// How far a compilation is: what it does, and how much of that is done, 0 to 100. A phase begins
// with 0; the next phase ends it. Called on the compiling thread.
#pragma once

#include <functional>
#include <string>

namespace tidemill {

using Progress = std::function<void(const std::string& phase, int percent)>;

}  // namespace tidemill
