// Plays golden vectors (a folder that accelsim.vectors wrote, +dir=DIR, its parameters.vh on the include path) into
// os_array.v and compares the sums at the bottom edge, cycle by cycle.
`timescale 1ns / 1ps
module bench_vectors_os;
    `include "parameters.vh"

    reg [ROWS*LANES*ACT_BITS-1:0] left [0:CYCLES];
    reg [COLS*LANES*WEIGHT_BITS-1:0] top [0:CYCLES];
    reg [ROWS-1:0] first [0:CYCLES], bank [0:CYCLES], drain [0:CYCLES];
    reg drain_bank [0:CYCLES];
    reg [COLS*ACC_BITS-1:0] bias [0:CYCLES], bottom [0:CYCLES];
    reg [COLS-1:0] bottom_valid [0:CYCLES];
    reg [8*512-1:0] dir, path;
    initial begin
        if (!$value$plusargs("dir=%s", dir)) $finish;
        $sformat(path, "%0s/left.memh", dir);
        $readmemh(path, left);
        $sformat(path, "%0s/top.memh", dir);
        $readmemh(path, top);
        $sformat(path, "%0s/first.memh", dir);
        $readmemh(path, first);
        $sformat(path, "%0s/bank.memh", dir);
        $readmemh(path, bank);
        $sformat(path, "%0s/drain.memh", dir);
        $readmemh(path, drain);
        $sformat(path, "%0s/drain_bank.memh", dir);
        $readmemh(path, drain_bank);
        $sformat(path, "%0s/bias.memh", dir);
        $readmemh(path, bias);
        $sformat(path, "%0s/bottom.memh", dir);
        $readmemh(path, bottom);
        $sformat(path, "%0s/bottom_valid.memh", dir);
        $readmemh(path, bottom_valid);
    end

    reg clk, reset;
    integer t, c, compared, wrong;
    wire [COLS*ACC_BITS-1:0] seen;
    os_array #(
        .ROWS(ROWS), .COLS(COLS), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_SIGNED(WEIGHT_SIGNED), .ACT_BITS(ACT_BITS),
        .ACT_SIGNED(ACT_SIGNED), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE), .LANES(LANES), .DEPTH(DEPTH),
        .BANKS(BANKS)
    ) array (
        .clk(clk), .reset(reset), .left(left[t]), .first(first[t]), .bank(bank[t]), .top(top[t]), .bias(bias[t]),
        .bias_out_of_range({COLS{1'b0}}), .drain(drain[t]), .drain_bank(drain_bank[t]), .bottom(seen),
        .overflow(), .bias_overflow()
    );

    initial begin
        clk = 1'b0;
        reset = 1'b1;
        t = 0;
        compared = 0;
        wrong = 0;
    end
    always #1 clk = !clk;
    always @(posedge clk) begin
        reset <= 1'b0;
        if (!reset) begin
            for (c = 0; c < COLS; c = c + 1)
                if (bottom_valid[t][c] !== 1'b0) begin
                    compared = compared + 1;
                    if (seen[c*ACC_BITS +: ACC_BITS] !== bottom[t][c*ACC_BITS +: ACC_BITS]) wrong = wrong + 1;
                end
            t <= t + 1;
            if (t == CYCLES) begin
                $display("compared %0d wrong %0d", compared, wrong);
                $finish;
            end
        end
    end
endmodule
