// A libnvrtc that compiles CUDA C for this processor, by g++. Its "PTX" is the path of a shared object, which is kept in
// $FAKE_CUDA/kernels beside its source.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

struct Program { std::string source, log, path; };

static std::string folder() {
    const char* folder = getenv("FAKE_CUDA");
    return folder ? folder : ".";
}

// What stands between the launch bounds and the parameters.
static std::string name_of(const std::string& source) {
    size_t end = source.find(" (", source.find("extern \"C\" __global__"));
    size_t start = source.find_last_of(") \n", end - 1) + 1;
    return source.substr(start, end - start);
}

extern "C" {
int nvrtcVersion(int* major, int* minor) { *major = 12; *minor = 8; return 0; }
const char* nvrtcGetErrorString(int) { return "g++ refused the source"; }
int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char**, const char**) {
    *program = new Program{ source, "", "" };
    return 0;
}
int nvrtcDestroyProgram(Program** program) { delete *program; return 0; }
int nvrtcCompileProgram(Program* program, int, const char**) {
    const std::string& source = program->source;
    std::string kernels = folder() + "/kernels", name = name_of(source);
    mkdir(kernels.c_str(), 0777);
    std::string base = kernels + "/" + name.substr(0, 60) + "-" + std::to_string(std::hash<std::string>{}(source));
    program->path = base + ".so";
    // Kernels may be left out, but for the first one, by which a device is checked.
    static std::atomic<bool> is_first{true};
    const char* wanted = getenv("FAKE_CUDA_KERNELS");
    bool is_skipped = !is_first.exchange(false) && wanted && !strcmp(wanted, "skip");
    if (!is_skipped && access(program->path.c_str(), R_OK) == 0) return 0;
    std::ofstream(base + ".cu") << source;
    if (is_skipped) {
        program->path = "";
        return 0;
    }
    std::string attempt = base + "-" + std::to_string(getpid());
    std::ofstream code(attempt + ".cpp");
    code << source << "\nextern \"C\" void fake_entry(void** arguments) { fake_call(" << name << ", arguments); }\n"
         << "extern \"C\" bool fake_has_barriers = " << (source.find("__sync") != source.npos || source.find("_sync(") != source.npos) << ";\n";
    if (source.find("dynamic_shared_mem[]") != source.npos)
        code << "alignas(1024) uint8 dynamic_shared_mem[232448];\nextern \"C\" uint8* fake_shared = dynamic_shared_mem;\n";
    code.close();
    std::string command = "g++ -std=c++17 -O2 -march=native -w -fno-strict-aliasing -shared -fPIC -I" + folder() +
                          "/include " + attempt + ".cpp -o " + attempt + ".so 2> " + attempt + ".log";
    if (system(command.c_str())) {
        std::stringstream log;
        log << std::ifstream(attempt + ".log").rdbuf();
        program->log = log.str().substr(0, 10000);
        return 6;
    }
    rename((attempt + ".so").c_str(), program->path.c_str());
    unlink((attempt + ".cpp").c_str());
    unlink((attempt + ".log").c_str());
    return 0;
}
int nvrtcGetProgramLogSize(Program* program, size_t* bytes) { *bytes = program->log.size() + 1; return 0; }
int nvrtcGetProgramLog(Program* program, char* log) { strcpy(log, program->log.c_str()); return 0; }
int nvrtcGetPTXSize(Program* program, size_t* bytes) { *bytes = program->path.size() + 1; return 0; }
int nvrtcGetPTX(Program* program, char* path) { strcpy(path, program->path.c_str()); return 0; }
}
