cmake_minimum_required(VERSION 3.25)

# Fails when an object compiled for a wider instruction set has a weak symbol: an inline function
# or template that the linker may keep for every file, processors without those instructions
# included.
# cmake -DOBJECTS="a.o;b.o" -DNM=... -P check_isa_objects.cmake
set(weak "")
set(num_checked 0)
foreach(object ${OBJECTS})
  if(NOT object MATCHES "_(avx2|avx512|avx512bf16|avx512vnni|amx)\\.cc\\.o$")
    continue()
  endif()
  math(EXPR num_checked "${num_checked} + 1")
  execute_process(COMMAND ${NM} -C --defined-only ${object}
    OUTPUT_VARIABLE symbols RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${NM} cannot read ${object}")
  endif()
  string(REGEX MATCHALL "[0-9a-f]+ [WVu] [^\n]*" found "${symbols}")
  get_filename_component(shown ${object} NAME)
  foreach(symbol ${found})
    string(REGEX REPLACE "^[0-9a-f]+ " "" symbol "${symbol}")
    string(APPEND weak "${shown}: ${symbol}\n")
  endforeach()
endforeach()
if(num_checked EQUAL 0)
  message(FATAL_ERROR "no object with an instruction set's suffix among: ${OBJECTS}")
endif()
if(weak)
  message(FATAL_ERROR "\n${weak}Weak symbols. Give them an unnamed namespace, or include less.")
endif()
message(STATUS "${num_checked} objects without weak symbols")
