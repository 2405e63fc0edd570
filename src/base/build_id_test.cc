#include "base/build_id.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace tidemill {
namespace {

TEST(BuildId, IsTheOneInTheProgramsFile) {
  const std::string id = build_id();
  ASSERT_EQ(id.size(), 40u) << "sha1, as CMakeLists.txt asks for";
  std::ifstream in("/proc/self/exe", std::ios::binary);
  const std::string program{std::istreambuf_iterator<char>(in), {}};
  // Four bytes of owner, twenty of content, of type 3.
  constexpr std::string_view kHeader{"\4\0\0\0\x14\0\0\0\3\0\0\0GNU\0", 16};
  std::string note(kHeader);
  for (size_t i = 0; i < id.size(); i += 2) {
    note += static_cast<char>(std::stoi(id.substr(i, 2), nullptr, 16));
  }
  EXPECT_NE(program.find(note), std::string::npos) << id;
}

TEST(BuildId, IsTheSameWheneverItIsAsked) { EXPECT_EQ(build_id(), build_id()); }

}  // namespace
}  // namespace tidemill
