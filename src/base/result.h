// Result<T>: a value, or an Error that says whose field was wrong and what to do about it.
//
// For what a *request* can get wrong. What ends a whole command (files, flags, memory, network) is
// an exception, caught in main.cc; what only a bug can cause is a CHECK (check.h).
// Member names are those of std::expected, which replaces this when the language level allows.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace tidemill {

// What went wrong, independent of any protocol. api/error.cc turns a kind into a status, a slug
// and a body; nobody below knows HTTP.
enum class ErrorKind {
  kInvalidJson,
  kInvalidParameter,
  kMissingParameter,
  kUnknownParameter,
  kUnsupportedParameter,
  kUnsupportedContent,
  kEmptyPrompt,
  kPromptTooLong,
  kTemplateError,
  kUnauthorized,
  kModelNotFound,
  kNotFound,
  kMethodNotAllowed,
  kBodyTooLarge,
  kUnsupportedMediaType,
  kQueueFull,
  kDraining,
  kModelLoading,
  kModelFailed,
  kDeadline,
  kOutOfMemory,
  kEngineError,
  kNumericalError,
  kInternal,
};

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string field;    // path into the request, such as "messages[2].content"; may be empty
  std::string message;  // what was given, what is allowed, what to do

  bool operator==(const Error&) const = default;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return checked(); }
  const T& value() const& { return const_cast<Result*>(this)->checked(); }
  T&& value() && { return std::move(checked()); }
  T& operator*() & { return checked(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &value(); }

  const Error& error() const {
    CHECK(!has_value(), "error() of a result that holds a value");
    return std::get<1>(state_);
  }

 private:
  T& checked() {
    CHECK(has_value(), "value() of a result that holds an error: {}", std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  std::variant<T, Error> state_;
};

// The result of something that only succeeds or fails.
struct Done {};
using Status = Result<Done>;

}  // namespace tidemill
