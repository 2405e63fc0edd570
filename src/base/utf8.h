// UTF-8, checked and written. Shortest forms only, no surrogates, up to U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidemill {

// Offset of the first byte that does not belong to a valid character; nullopt when all is valid.
std::optional<size_t> first_invalid_utf8(std::string_view text);
// Bytes at the end of `text`, 3 at most, that begin a character and do not finish it.
size_t unfinished_bytes(std::string_view text);
// Valid UTF-8 of whatever it is: the beginning of a character that does not go on, and every byte
// that begins none, becomes one U+FFFD. So do browsers, Python and Rust.
std::string lossy_utf8(std::string_view text);
void append_utf8(std::string* out, uint32_t code_point);
// Code points in valid UTF-8.
size_t count_code_points(std::string_view text);
// The beginning of somebody else's text, for messages: never longer than that, always valid UTF-8.
// It is cut between characters; what is no character shows as U+FFFD.
std::string excerpt(std::string_view text, size_t max_bytes = 64);

}  // namespace tidemill
