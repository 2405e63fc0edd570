// java.util.Properties files, as serving.properties is one: "key=value", "key: value" or
// "key value"; # and ! comments; a backslash joins lines; \t \n \r \f \uXXXX escapes. Blanks before
// a value are dropped, blanks behind it are kept: whoever reads a value decides (option_table.h
// trims). Text is UTF-8; a file that is not
// valid UTF-8 is ISO-8859-1, as Java writes it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tidemill {

struct Property {
  std::string key;
  std::string value;
  int line = 0;  // where its logical line begins, from 1
};

// In the order of the file; a repeated key appears again (the last one counts, as in the original).
// Throws std::runtime_error with `name` and the line for a malformed escape, or for a file beyond
// 1 MiB.
std::vector<Property> parse_properties(std::string_view text, std::string_view name);

}  // namespace tidemill
