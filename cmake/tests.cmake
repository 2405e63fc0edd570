# Tests that are not unit tests of a layer: of the checks themselves, and of the program and the
# lower layers on processors that lack what this one has.
add_test(NAME cmake.ChecksFindWhatTheyAreFor
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/checks_test
          -P ${CMAKE_SOURCE_DIR}/cmake/checks_test.cmake)
