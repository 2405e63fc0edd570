// parse_json: Boost.JSON's tokenising parser, with our own rules on top of it. The library's
// documents accept duplicate keys and turn 1e400 into infinity; here the events build our tree, and
// every number is read again from its own text.
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/src.hpp>
#include <charconv>
#include <cmath>
#include <string_view>
#include <unordered_set>

#include "base/json.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

namespace bj = boost::json;

// Builds a JsonValue from the parser's events. A handler that returns false stops the parser; the
// reason is in `problem`.
class TreeBuilder {
 public:
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  explicit TreeBuilder(const JsonLimits& limits) : limits_(limits) {}

  const std::string& problem() const { return problem_; }
  JsonValue take() { return std::move(root_); }

  bool on_document_begin(bj::error_code&) { return true; }
  bool on_document_end(bj::error_code&) { return true; }

  bool on_object_begin(bj::error_code& ec) { return open(JsonObject{}, ec); }
  bool on_object_end(std::size_t, bj::error_code&) { return close(); }
  bool on_array_begin(bj::error_code& ec) { return open(JsonArray{}, ec); }
  bool on_array_end(std::size_t, bj::error_code&) { return close(); }

  bool on_key_part(bj::string_view part, std::size_t, bj::error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_key(bj::string_view part, std::size_t, bj::error_code& ec) {
    text_.append(part.data(), part.size());
    Level& level = levels_.back();
    if (level.keys.size() == limits_.max_members) {
      return fail(format("one object holds more than {} members", limits_.max_members), ec);
    }
    if (!level.keys.insert(text_).second) {
      return fail("the key \"" + excerpt(text_) + "\" stands twice in one object", ec);
    }
    level.key = std::move(text_);
    text_.clear();
    return true;
  }
  bool on_string_part(bj::string_view part, std::size_t, bj::error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(bj::string_view part, std::size_t, bj::error_code& ec) {
    text_.append(part.data(), part.size());
    JsonValue value(std::move(text_));
    text_.clear();
    return add(std::move(value), ec);
  }

  bool on_number_part(bj::string_view part, bj::error_code&) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool on_int64(int64_t, bj::string_view part, bj::error_code& ec) { return number(part, ec); }
  bool on_uint64(uint64_t, bj::string_view part, bj::error_code& ec) { return number(part, ec); }
  bool on_double(double, bj::string_view part, bj::error_code& ec) { return number(part, ec); }
  bool on_bool(bool value, bj::error_code& ec) { return add(JsonValue(value), ec); }
  bool on_null(bj::error_code& ec) { return add(JsonValue(), ec); }
  bool on_comment_part(bj::string_view, bj::error_code&) { return true; }
  bool on_comment(bj::string_view, bj::error_code&) { return true; }

 private:
  // An array or object whose end has not come yet.
  struct Level {
    JsonValue value;
    std::string key;                       // objects: of the member that comes next
    std::unordered_set<std::string> keys;  // objects: those seen
  };

  bool fail(std::string problem, bj::error_code& ec) {
    problem_ = std::move(problem);
    ec = bj::error::syntax;
    return false;
  }

  bool count(bj::error_code& ec) {
    if (++num_values_ <= limits_.max_values) return true;
    return fail(format("it holds more than {} values", limits_.max_values), ec);
  }

  template <typename Container>
  bool open(Container container, bj::error_code& ec) {
    if (!count(ec)) return false;
    levels_.push_back({.value = JsonValue(std::move(container)), .key = {}, .keys = {}});
    return true;
  }

  bool close() {
    JsonValue value = std::move(levels_.back().value);
    levels_.pop_back();
    place(std::move(value));
    return true;
  }

  bool add(JsonValue value, bj::error_code& ec) {
    if (!count(ec)) return false;
    place(std::move(value));
    return true;
  }

  void place(JsonValue value) {
    if (levels_.empty()) {
      root_ = std::move(value);
    } else if (Level& level = levels_.back(); level.value.is_array()) {
      level.value.array().push_back(std::move(value));
    } else {
      level.value.object().emplace_back(std::move(level.key), std::move(value));
    }
  }

  bool number(bj::string_view part, bj::error_code& ec) {
    text_.append(part.data(), part.size());
    const std::string spelled = std::move(text_);
    text_.clear();
    if (spelled.find_first_of(".eE") == std::string::npos) return integer(spelled, ec);
    return real(spelled, ec);
  }

  bool integer(const std::string& spelled, bj::error_code& ec) {
    const char* begin = spelled.data();
    const char* end = begin + spelled.size();
    int64_t narrow = 0;
    if (std::from_chars(begin, end, narrow).ec == std::errc()) return add(JsonValue(narrow), ec);
    uint64_t wide = 0;
    if (spelled[0] != '-' && std::from_chars(begin, end, wide).ec == std::errc()) {
      return add(JsonValue(wide), ec);
    }
    if (limits_.huge_integers_as_reals) return real(spelled, ec);
    return fail("the integer " + spelled.substr(0, 32) + " does not fit in 64 bits", ec);
  }

  bool real(const std::string& spelled, bj::error_code& ec) {
    double value = 0.0;
    const char* end = spelled.data() + spelled.size();
    const auto result = std::from_chars(spelled.data(), end, value);
    if (result.ec == std::errc::result_out_of_range) {
      // Too large is refused; too small to tell from zero is zero. from_chars does not say which.
      value = std::strtod(spelled.c_str(), nullptr);
    }
    if (!std::isfinite(value)) {
      return fail("the number " + spelled.substr(0, 32) + " is too large", ec);
    }
    return add(JsonValue(value), ec);
  }

  const JsonLimits& limits_;
  std::vector<Level> levels_;
  JsonValue root_;
  std::string text_;
  std::string problem_;
  size_t num_values_ = 0;
};

Error invalid(size_t offset, std::string_view reason) {
  return Error{.kind = ErrorKind::kInvalidJson,
               .field = "",
               .message = format("the text is not valid JSON at byte {}: {}", offset, reason)};
}

}  // namespace

Result<JsonValue> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return invalid(text.size(), "it is empty");
  }
  bj::parse_options options;
  options.max_depth = limits.max_depth;
  bj::basic_parser<TreeBuilder> parser(options, limits);
  bj::error_code ec;
  const size_t consumed = parser.write_some(false, text.data(), text.size(), ec);
  if (ec) {
    const std::string& own = parser.handler().problem();
    return invalid(consumed, own.empty() ? ec.message() : own);
  }
  const size_t rest = text.find_first_not_of(" \t\r\n", consumed);
  if (rest != std::string_view::npos) return invalid(rest, "something follows the document");
  return parser.handler().take();
}

}  // namespace tidemill
