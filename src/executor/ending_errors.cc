#include "executor/ending_errors.h"

#include "base/check.h"

namespace tidemill {

Error deadline_error(const char* what, int64_t milliseconds) {
  return {.kind = ErrorKind::kDeadline,
          .field = "",
          .message = format("the request {} within {} s; it was ended.", what,
                            static_cast<double>(milliseconds) / 1000.0)};
}

Error out_of_memory_error() {
  return {.kind = ErrorKind::kOutOfMemory,
          .field = "",
          .message = "there was no memory for the request; it was ended. Try again later."};
}

Error engine_failed_error() {
  return {.kind = ErrorKind::kEngineError,
          .field = "",
          .message = "the model stopped working; the request cannot be completed."};
}

Error unloaded_error() {
  return {.kind = ErrorKind::kDraining, .field = "", .message = "the model was unloaded."};
}

Error error_of(RowFailure failure) {
  if (failure == RowFailure::kOutOfMemory) return out_of_memory_error();
  return {.kind = ErrorKind::kNumericalError,
          .field = "",
          .message = "the model computed a value that is not a number; the request was ended."};
}

EndKind kind_of(EndReason reason) {
  switch (reason) {
    case EndReason::kLength:
      return EndKind::kLength;
    case EndReason::kFailed:
      return EndKind::kError;
    default:
      return EndKind::kStop;
  }
}

}  // namespace tidemill
