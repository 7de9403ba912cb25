# Alignment checks of 64-bit code: #AC(0) in ring 3 with CR0.AM and AC, for every width, on the stack and by strings; never in
# ring 0.
.include "metal64.inc"
        METAL "align64"
.set AM, 0x40000
.set DATA_AT, FREE_RAM

.macro USER_AC insn:vararg              # #AC(0) in ring 3, where the program goes on with AC as it was
        WANT64 17, 0, .Lat\@, .Lon\@
        mov qword ptr [V_RSP64], STACK32
.Lat\@: \insn
        FAIL
.Lon\@: USER64_CODE
        SETAC
.endm
.macro SETAC                            # RSP stays
        pushfq
        or dword ptr [rsp], ACF
        popfq
.endm

        LONG64
        mov rbx, DATA_AT
        mov rax, cr0
        or eax, AM
        mov cr0, rax
        FROM 1
        NEXT                            # ring 0 takes no notice
        SETAC
        mov eax, [rbx + 1]
        mov [rbx + 3], rax
        NEXT                            # nor does ring 3 without AC
        USER64_CODE
        mov eax, [rbx + 1]
        mov [rbx + 3], rax
        NEXT                            # with it every width
        SETAC
        mov al, [rbx + 1]
        mov ax, [rbx + 2]
        mov eax, [rbx + 4]
        mov rax, [rbx + 8]
        USER_AC mov ax, [rbx + 1]
        USER_AC mov eax, [rbx + 2]
        USER_AC mov rax, [rbx + 4]
        USER_AC mov [rbx + 1], ax
        USER_AC mov [rbx + 2], eax
        USER_AC mov [rbx + 4], rax
        USER_AC inc dword ptr [rbx + 1]
        USER_AC lock xadd [rbx + 1], eax
        USER_AC mov rax, [rbx * 1 + 0x1004]
        NEXT                            # stack and strings
        mov rcx, rsp
        lea rsp, [rsp - 12]
        USER_AC push rax
        lea rsp, [rsp - 12]
        USER_AC pop rax
        mov rcx, 2
        mov rsi, rbx
        lea rdi, [rbx + 0x101]
        cld
        movsb
        USER_AC lodsw
        USER_AC rep stosq
        EQ rcx, 2
        NEXT                            # where nothing is: #GP comes first
        mov rdx, NON_CANONICAL + 1
        WANT64 13, 0, 1f, 2f
        mov qword ptr [V_RSP64], STACK32
1:      mov rax, [rdx]
2:      PASS
        METAL64_END
