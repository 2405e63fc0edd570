cmake_minimum_required(VERSION 3.25)

# The checks of #include lines find what they are for, on small folders written here.
# cmake -DFOLDER=scratch folder -P checks_test.cmake
file(REMOVE_RECURSE ${FOLDER})

# run_check(script passes|fails "text of the message" -Dname=value...)
function(run_check script outcome text)
  execute_process(COMMAND ${CMAKE_COMMAND} ${ARGN} -P ${CMAKE_CURRENT_LIST_DIR}/${script}
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(status EQUAL 0)
    set(seen passes)
  else()
    set(seen fails)
  endif()
  string(REGEX REPLACE "[ \n]+" " " flat "${output}")  # messages are wrapped
  string(FIND "${flat}" "${text}" at)
  if(NOT seen STREQUAL outcome OR at EQUAL -1)
    message(SEND_ERROR "${script} ${ARGN} ${seen}; it should be: ${outcome}, with \"${text}\".\n"
      "It said: ${output}")
  endif()
endfunction()

function(check_layer name outcome text)
  run_check(check_includes.cmake ${outcome} "${text}" -DFOLDER=${FOLDER}/${name} -DNAME=${name}
    "-DALLOWED=base\;parallel")
endfunction()

# A layer may include itself and those below it.
file(WRITE ${FOLDER}/good/a.h "#include <vector>\n#include \"base/check.h\"\n")
file(WRITE ${FOLDER}/good/deeper/a.cc "#include \"good/a.h\"\n  #  include \"parallel/lane.h\"\n")
check_layer(good passes "")
# It may not climb, neither in a header nor in a folder inside it.
file(WRITE ${FOLDER}/climbs/a.h "#include \"server/routes.h\"\n")
check_layer(climbs fails "src/climbs/a.h: #include \"server/routes.h\"")
check_layer(climbs fails "climbs/ may include: climbs base parallel.")
file(WRITE ${FOLDER}/deep/host/a.cc "#include \"base/check.h\"\n # include \"model/load.h\"\n")
check_layer(deep fails "src/deep/host/a.cc: #include \"model/load.h\"")
# A name without its folder would hide where it points.
file(WRITE ${FOLDER}/bare/a.cc "#include \"a.h\"\n")
check_layer(bare fails "Includes are written from src/: name the folder.")

function(check_isa outcome text)
  run_check(check_isa_includes.cmake ${outcome} "${text}" -DROOT=${FOLDER}
    "-DSOURCES=${FOLDER}/kernels/host/rows_avx2.cc\;${FOLDER}/kernels/plain.cc")
endfunction()

# Files for wider instruction sets include what is on the list; others are not asked.
file(WRITE ${FOLDER}/kernels/plain.cc "#include <vector>\n")
file(WRITE ${FOLDER}/kernels/host/inner.h "#include <stdint.h>\n")
file(WRITE ${FOLDER}/kernels/host/rows_avx2.cc
  "#include <immintrin.h>\n#include \"kernels/host/inner.h\"\n")
check_isa(passes "")
file(APPEND ${FOLDER}/kernels/host/rows_avx2.cc "#include \"kernels/kernels.h\"\n")
check_isa(fails "src/kernels/host/rows_avx2.cc: #include \"kernels/kernels.h\"")
file(WRITE ${FOLDER}/kernels/host/rows_avx2.cc "#include <algorithm>\n")
check_isa(fails "src/kernels/host/rows_avx2.cc: #include <algorithm>")
# What a header of the list includes arrives as well.
file(WRITE ${FOLDER}/kernels/host/rows_avx2.cc "#include \"kernels/host/inner.h\"\n")
file(WRITE ${FOLDER}/kernels/host/inner.h "#include <vector>\n")
check_isa(fails "src/kernels/host/inner.h: #include <vector>")
run_check(check_isa_includes.cmake fails "no file with an instruction set's suffix"
  -DROOT=${FOLDER} -DSOURCES=${FOLDER}/kernels/plain.cc)
