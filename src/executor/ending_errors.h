// What a sequence's ending says where it ended otherwise than it was asked to. Private to
// executor/.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "executor/executor_metrics.h"
#include "scheduler/scheduler.h"

namespace tidemill {

Error deadline_error(const char* what, int64_t milliseconds);
Error out_of_memory_error();
Error engine_failed_error();
Error unloaded_error();
Error error_of(RowFailure failure);
EndKind kind_of(EndReason reason);

}  // namespace tidemill
