# Warnings for our own code. They are errors in the test build (TIDEMILL_WERROR), never in the
# user's: a newer compiler must not keep anybody from building a release.
add_library(tidemill_flags INTERFACE)
target_compile_options(tidemill_flags INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wconversion -Wno-sign-conversion
  -Wimplicit-fallthrough -Wno-missing-field-initializers -fno-strict-aliasing)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these falsely for std::string, std::variant and coroutine frames at -O2.
  target_compile_options(tidemill_flags INTERFACE
    -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds
    -Wno-free-nonheap-object -Wno-dangling-reference)
endif()
if(TIDEMILL_WERROR)
  target_compile_options(tidemill_flags INTERFACE -Werror)
endif()
if(TIDEMILL_SANITIZE STREQUAL "thread")
  # The fences of the spinning barrier are not modelled; its atomics are.
  target_compile_options(tidemill_flags INTERFACE -fsanitize=thread -Wno-tsan
    -fno-omit-frame-pointer)
  target_link_options(tidemill_flags INTERFACE -fsanitize=thread)
elseif(TIDEMILL_SANITIZE)
  target_compile_options(tidemill_flags INTERFACE -fsanitize=address,undefined
    -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(tidemill_flags INTERFACE -fsanitize=address,undefined)
endif()
if(TIDEMILL_FUZZ)
  target_compile_options(tidemill_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined
    -fno-sanitize-recover=all -fno-omit-frame-pointer -O1)
  target_link_options(tidemill_flags INTERFACE -fsanitize=address,undefined)
endif()
target_include_directories(tidemill_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
