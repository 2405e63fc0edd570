// What tools of the system call a thread (`top -H`, /proc/PID/task/*/comm).
#pragma once

#include <string>

namespace tidemill {

// Of the calling thread; the first 15 bytes count.
void name_thread(const std::string& name);

}  // namespace tidemill
