// A string that a constructor makes before `main`: empty in a child whose constructors did not run.
#include <string>

static const std::string greeting = std::string("greetings ") + "from C++";

extern "C" unsigned long greeting_length() { return greeting.size(); }

// A bad access that is no stack overflow.
extern "C" void access_nothing() { *static_cast<volatile int *>(nullptr) = 1; }

// Another one: beyond the top of the stack, near the stack pointer.
extern "C" unsigned long run_off_the_stack() {
    volatile unsigned char here = 0;
    unsigned long sum = 0;
    for (volatile unsigned char *byte = &here;; ++byte) sum += *byte;
    return sum;
}
